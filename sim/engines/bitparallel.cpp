// Bit-parallel fault experiments: 512 lanes of the cut netlist compiled as LUTs.
//
// usage: model CONTENTS TRACE JOB RESULT WORKERS FROM TO. All files are little endian;
// engines/bitparallel.py writes and reads them. Prints a line with the number of experiments
// whenever some are finished.

constexpr size_t PORTION = 4096;

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
    put(out.file, Words{result.row_cycle.size(), evaluations});
    put(out.file, result.ends);
    put(out.file, result.events);
    put(out.file, result.end_cycles);
    put(out.file, result.row_experiment);
    put(out.file, result.row_cycle);
    put(out.file, result.row_out);
}

// Portions of experiments that follow one another in time, as threads ask for them.
uint64_t sweep_all(const GoldenRun& run, const Job& job, Result& result, uint32_t workers) {
    Numbers order(job.size());
    for (uint32_t x = 0; x < order.size(); ++x) order[x] = x;
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return job.begin(a) < job.begin(b); });
    const size_t share = std::max<size_t>(PORTION, (order.size() + 4 * workers - 1) / (4 * workers));
    std::atomic<size_t> next{0};
    std::atomic<uint64_t> evaluations{0};
    std::mutex guard;
    std::string failure;
    const auto work = [&] {
        try {
            Sweep sweep(run, job, result);
            for (size_t at; (at = next.fetch_add(share)) < order.size();) {
                const size_t count = std::min(share, order.size() - at);
                sweep(&order[at], count);
                const std::lock_guard<std::mutex> lock(guard);
                std::printf("%zu\n", count);
                std::fflush(stdout);
            }
            evaluations += sweep.evaluations();
        } catch (const std::exception& error) {
            const std::lock_guard<std::mutex> lock(guard);
            failure = error.what();
        }
    };
    std::vector<std::thread> threads;
    for (uint32_t i = 1; i < workers; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    if (!failure.empty()) throw std::runtime_error(failure);
    return evaluations;
}

int main(int argc, char** argv) {
    try {
        if (argc != 8) throw std::runtime_error("usage: model CONTENTS TRACE JOB RESULT WORKERS FROM TO");
        const Contents contents(File(argv[1], "rb").file);
        const Trace trace(File(argv[2], "rb").file);
        const Job job(File(argv[3], "rb").file);
        const GoldenRun run(trace, contents, uint32_t(std::stoul(argv[6])), uint32_t(std::stoul(argv[7])));
        Result result(job.size());
        const uint64_t evaluations = sweep_all(run, job, result, uint32_t(std::stoul(argv[5])));
        write(result, evaluations, argv[4]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
