// Faults in lanes: which experiment runs where, and its events.

enum End : uint8_t { GOLDEN = 0, BOUND = 1, HANG = 2, NOT_LANDED = 3, MERGED = 5, DIVERGED = 6 };
enum Mode : uint32_t { FLIP = 0 };  // else 1 + the value at which the bit is stuck

struct Job {
    Numbers first, target, mode, start, stop, limit;  // limit: cycle at which the watch ends
    uint32_t merge_until;

    explicit Job(FILE* file) {
        uint64_t sizes[3];
        if (std::fread(sizes, 8, 3, file) != 3) throw std::runtime_error("the job is cut short");
        merge_until = uint32_t(sizes[2]);
        for (auto [column, count] : {std::pair{&first, sizes[0] + 1}, {&target, sizes[1]},
                                     {&mode, sizes[1]}, {&start, sizes[1]}, {&stop, sizes[1]},
                                     {&limit, sizes[0]}}) {
            column->resize(count);
            if (std::fread(column->data(), 4, count, file) != count)
                throw std::runtime_error("the job is cut short");
        }
    }

    // The experiments of `other` in this order.
    Job(const Job& other, const Numbers& order) : merge_until(other.merge_until) {
        for (uint32_t x : order) {
            first.push_back(uint32_t(target.size()));
            limit.push_back(other.limit[x]);
            for (uint32_t e = other.first[x]; e < other.first[x + 1]; ++e) {
                target.push_back(other.target[e]);
                mode.push_back(other.mode[e]);
                start.push_back(other.start[e]);
                stop.push_back(other.stop[e]);
            }
        }
        first.push_back(uint32_t(target.size()));
    }

    size_t size() const { return limit.size(); }
    uint32_t begin(uint32_t x) const {
        return *std::min_element(&start[first[x]], &start[first[x + 1]]);
    }
};

constexpr uint32_t DROPPED = 0xffffffffu;  // experiment of a row that a frame replaced

// Per experiment; and one row an output beat that differs: experiment, cycle, all output bits.
struct Result {
    Bytes ends, events, strayed;
    Numbers end_cycles, merged_bit;
    Numbers detected;  // cycle of the first beat with the error flag
    std::mutex guard;
    Numbers row_experiment, row_cycle;
    Bytes row_out;
    FrameRows frames;  // of experiments that strayed

    explicit Result(size_t count)
        : ends(count), events(count), strayed(count), end_cycles(count), merged_bit(count),
          detected(count, DROPPED) {}

    void detect(const Streams& s, const V* out, uint32_t lane, uint32_t x, uint32_t t) {
        if (s.flagged(out, lane, t)) detected[x] = std::min(detected[x], t);
    }

    // From experiments in this order to the caller's.
    void reorder(const Numbers& order) {
        const auto one = [&](auto& values) {
            auto sorted = values;
            for (size_t i = 0; i < order.size(); ++i) values[order[i]] = sorted[i];
        };
        one(ends), one(events), one(strayed), one(end_cycles), one(merged_bit), one(detected);
        for (Numbers* rows : {&row_experiment, &frames.experiment})
            for (uint32_t& x : *rows) x = x == DROPPED ? x : order[x];
    }
};

class Lanes {
protected:
    const GoldenRun& run;
    const Job& job;
    Result& result;
    Design design;
    V busy{}, waiting{};  // running; events to come
    std::array<uint32_t, LANES> experiment{}, to_come{};
    struct Event { uint32_t when, lane, index; };  // a flip to come, or a stuck-at
    std::vector<Event> flips, stuck;

    Lanes(const GoldenRun& r, const Job& j, Result& to)
        : run(r), job(j), result(to), design(r.contents) {}

    // The events of an experiment from cycle t on.
    void expect(uint32_t lane, uint32_t x, uint32_t t) {
        experiment[lane] = x;
        to_come[lane] = 0;
        for (uint32_t e = job.first[x]; e < job.first[x + 1]; ++e) {
            if (job.mode[e] == FLIP ? job.start[e] < t : job.stop[e] <= t) continue;
            (job.mode[e] == FLIP ? flips : stuck).push_back({job.start[e], lane, e});
            ++to_come[lane];
        }
        if (to_come[lane]) set(waiting, lane);
    }

    void forget(uint32_t lane) {
        if (!bit(waiting, lane)) return;
        clear(waiting, lane);
        const auto own = [&](const Event& event) { return event.lane == lane; };
        flips.erase(std::remove_if(flips.begin(), flips.end(), own), flips.end());
        stuck.erase(std::remove_if(stuck.begin(), stuck.end(), own), stuck.end());
    }

    // At the start of cycle t: stuck-ats that ended.
    void release_stuck(uint32_t t) {
        const auto over = [&](const Event& event) {
            if (job.stop[event.index] > t) return false;
            done(event.lane);
            return true;
        };
        stuck.erase(std::remove_if(stuck.begin(), stuck.end(), over), stuck.end());
    }

    // The events of cycle t.
    void strike(uint32_t t) {
        const auto flip = [&](const Event& event) {
            if (event.when != t) return false;
            invert_target(job.target[event.index], event.lane);
            done(event.lane);
            return true;
        };
        flips.erase(std::remove_if(flips.begin(), flips.end(), flip), flips.end());
        for (const Event& event : stuck)
            if (event.when <= t) force(job.target[event.index], event.lane, job.mode[event.index] - 1);
    }

    void done(uint32_t lane) {
        if (!--to_come[lane]) clear(waiting, lane);
    }

    void invert_target(uint32_t target, uint32_t lane) {
        if (target < STATE_BITS) {
            const bool before = bit(design.q[target], lane);
            invert(design.q[target], lane);
            if (bit(design.q[target], lane) == before) result.ends[experiment[lane]] = NOT_LANDED;
            return;
        }
        uint64_t at = target - STATE_BITS;
        for (uint32_t m = 0; m < TARGETS.size(); ++m) {
            const MemoryRow& row = MEMORIES[TARGETS[m]];
            const uint64_t bits = uint64_t(row.width) * row.depth;
            if (at < bits) return invert_word(TARGETS[m], uint32_t(at / row.width), at % row.width, lane);
            at -= bits;
        }
    }

    void invert_word(uint32_t m, uint32_t address, uint32_t position, uint32_t lane) {
        LaneMemories& memories = design.memories;
        const uint64_t* now = memories.word(m, address, lane);
        Words word(now, now + design.contents.size[m]);
        word[position >> 6] ^= 1ull << (position & 63);
        memories.put(m, address, lane, word.data());
    }

    bool value_of(uint32_t target, uint32_t lane) {
        if (target < STATE_BITS) return bit(design.q[target], lane);
        uint64_t at = target - STATE_BITS;
        for (uint32_t m : TARGETS) {
            const MemoryRow& row = MEMORIES[m];
            const uint64_t bits = uint64_t(row.width) * row.depth;
            if (at < bits) {
                const uint32_t position = uint32_t(at % row.width);
                const uint64_t* word = design.memories.word(m, uint32_t(at / row.width), lane);
                return word[position >> 6] >> (position & 63) & 1;
            }
            at -= bits;
        }
        return false;
    }

    void force(uint32_t target, uint32_t lane, bool value) {
        if (value_of(target, lane) != value) invert_target(target, lane);
    }
};
