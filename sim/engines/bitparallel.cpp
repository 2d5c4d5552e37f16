// Bit-parallel fault experiments: 512 lanes of the cut netlist compiled as LUTs.
//
// usage: model CONTENTS TRACE JOB RESULT WORKERS FROM TO
//        model CONTENTS TRACE collapse RESULT WORKERS FROM TO
// All files are little endian; engines/bitparallel.py writes and reads them. FROM and TO are the
// cycles that are simulated. Prints a line with the number of experiments whenever some are
// finished.

template <class T> void put(FILE* file, const std::vector<T>& values) {
    if (!values.empty() && std::fwrite(values.data(), sizeof(T), values.size(), file) != values.size())
        throw std::runtime_error("the result cannot be written");
}

struct File {
    FILE* file;
    File(const char* path, const char* mode) : file(std::fopen(path, mode)) {
        if (!file) throw std::runtime_error(std::string(path) + " cannot be opened");
    }
    ~File() { std::fclose(file); }
};

void write(const Result& result, uint64_t evaluations, const char* path) {
    const File out(path, "wb");
    put(out.file, Words{result.row_cycle.size(), result.frames.frame.size(), evaluations});
    put(out.file, result.ends);
    put(out.file, result.events);
    put(out.file, result.strayed);
    put(out.file, result.end_cycles);
    put(out.file, result.merged_bit);
    put(out.file, result.detected);
    put(out.file, result.row_experiment);
    put(out.file, result.row_cycle);
    put(out.file, result.row_out);
    put(out.file, result.frames.experiment);
    put(out.file, result.frames.frame);
    put(out.file, result.frames.flags);
    put(out.file, result.frames.words);
}

// Call `work(worker)` in threads; the first failure is thrown.
template <class F> void in_threads(uint32_t workers, F work) {
    std::mutex guard;
    std::string failure;
    const auto guarded = [&](uint32_t worker) {
        try {
            work(worker);
        } catch (const std::exception& error) {
            const std::lock_guard<std::mutex> lock(guard);
            failure = error.what();
        }
    };
    std::vector<std::thread> threads;
    for (uint32_t i = 1; i < workers; ++i) threads.emplace_back(guarded, i);
    guarded(0);
    for (std::thread& thread : threads) thread.join();
    if (!failure.empty()) throw std::runtime_error(failure);
}

// One stretch of time a thread: the longer it is, the fuller are the lanes.
uint64_t sweep_all(const GoldenRun& run, const Streams& streams, const Job& job, Result& result, uint32_t workers) {
    std::vector<std::pair<uint32_t, uint32_t>> starts;
    for (uint32_t x = 0; x < job.size(); ++x) starts.push_back({job.begin(x), x});
    std::sort(starts.begin(), starts.end());
    Numbers order;
    for (const auto& [begin, x] : starts) order.push_back(x);
    const Job sorted(job, order);
    std::atomic<uint64_t> evaluations{0};
    in_threads(workers, [&](uint32_t worker) {
        Sweep sweep(run, streams, sorted, result);
        sweep(uint32_t(order.size() * worker / workers), uint32_t(order.size() * (worker + 1) / workers));
        evaluations += sweep.evaluations();
    });
    result.reorder(order);
    return evaluations;
}

// Successors [TO - FROM][STATE_BITS] of all flips, see bitparallel_collapse.h.
void collapse_all(const GoldenRun& run, uint32_t workers, const char* path) {
    std::vector<int32_t> successors(size_t(run.to - run.from) * STATE_BITS);
    std::atomic<uint32_t> next{run.from};
    in_threads(workers, [&](uint32_t) {
        Collapse collapse(run);
        for (uint32_t t; (t = next++) < run.to;)
            collapse(t, &successors[size_t(t - run.from) * STATE_BITS]);
    });
    const File out(path, "wb");
    put(out.file, successors);
}

int main(int argc, char** argv) {
    try {
        if (argc != 8) throw std::runtime_error("usage: model CONTENTS TRACE JOB RESULT WORKERS FROM TO");
        const Contents contents(File(argv[1], "rb").file);
        const File recorded(argv[2], "rb");
        const Trace trace(recorded.file);
        const Streams streams(recorded.file, trace.cycles);
        const GoldenRun run(trace, contents, uint32_t(std::stoul(argv[6])), uint32_t(std::stoul(argv[7])));
        const uint32_t workers = uint32_t(std::stoul(argv[5]));
        if (argv[3] == std::string("collapse")) {
            collapse_all(run, workers, argv[4]);
            return 0;
        }
        const Job job(File(argv[3], "rb").file);
        Result result(job.size());
        write(result, sweep_all(run, streams, job, result, workers), argv[4]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
