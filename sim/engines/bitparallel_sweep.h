// Experiments in lanes: each starts in a free lane at its cycle, and leaves it when it is golden or
// when its watch ends. A lane whose handshake differs strays: from then on it has an environment of
// its own; without `Streams`, or if it may be golden but late, it is given up as DIVERGED. Up to
// cycle `merge_until` it also leaves it when exactly one bit of the state differs: what follows is
// known from the flip of that bit in that cycle.

class Sweep : Lanes {
    // Lanes that must run while others could start earlier, unless some start within so many cycles.
    static constexpr uint32_t PARK = 7 * LANES / 8, SOON = 4, WORTH_WAITING = 4;
    const Trace& trace;
    const Streams& streams;
    uint32_t contents_at;                      // cycle of design.contents
    V stale{};                                 // ended but not golden
    V astray{};                                // running in an environment of their own
    std::array<Stray, LANES> strays;
    std::array<Numbers, LANES> own_rows;       // rows of a lane's current frame
    V free_lanes{};
    std::vector<bool> wanders;                 // targets whose experiments read elsewhere
    uint32_t next_limit = 0xffffffffu, ended = 0;
    bool left_behind = false;                  // earlier cycles have experiments to start
    struct Parked {  // an experiment without a lane
        uint32_t experiment = 0;
        bool astray = false;
        Stray stray;
        Numbers own_rows, bits;                // bits of the state that differ
        std::vector<std::pair<uint32_t, uint32_t>> places;  // words that differ: memory, address
        Words words;
    };
    std::vector<Parked> parked;
    std::array<uint32_t, LANES> look_again{};  // cycle from which a lane may wait outside
    Numbers spare;                             // entries of `parked` that are free again
    std::map<uint32_t, Numbers> cycles;        // with the experiments still to start
    Numbers rows_experiment, rows_cycle;
    Bytes rows_out;
    FrameRows frames;

public:
    uint64_t evaluations() const { return design.evaluations; }

    Sweep(const GoldenRun& r, const Streams& s, const Job& j, Result& to)
        : Lanes(r, j, to), trace(r.trace), streams(s), contents_at(0),
          wanders(1 + *std::max_element(j.target.begin(), j.target.end())) {}

    // Run experiments, sorted by their first cycle.
    void operator()(uint32_t begin, uint32_t end) {
        for (uint32_t x = begin; x < end; ++x) cycles[job.begin(x)].push_back(x);
        while (!cycles.empty()) {
            pass();
            tell();
        }
        const std::lock_guard<std::mutex> lock(result.guard);
        const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
        append(result.row_experiment, rows_experiment);
        append(result.row_cycle, rows_cycle);
        append(result.row_out, rows_out);
        append(result.frames.experiment, frames.experiment), append(result.frames.frame, frames.frame);
        append(result.frames.flags, frames.flags);
        append(result.frames.words, frames.words);
    }

private:
    // A line with the number of experiments that ended since the last one.
    void tell() {
        const std::lock_guard<std::mutex> lock(result.guard);
        std::printf("%u\n", ended);
        std::fflush(stdout);
        ended = 0;
    }

    // From the first cycle with experiments to start until no lane runs and none starts soon, or
    // until lanes are free that earlier cycles could use.
    void pass() {
        uint32_t t = cycles.begin()->first;
        restore(t);
        for (;; ++t) {
            const auto next = cycles.lower_bound(t);
            const uint32_t start = next == cycles.end() ? ChangeLog::NEVER : next->first;
            if (!any(busy) && start > t) return;
            if (left_behind && start > t + SOON && count(busy) < PARK) {
                cycles[t] = park_all(t);
                return;
            }
            if (start == t) {
                launch(next->second, t);
                if (next->second.empty()) cycles.erase(next);
                else left_behind = true;
            }
            strike(t);
            step(t);
            settle(t + 1);
        }
    }

    void restore(uint32_t t) {
        design.contents.seek(run.log, contents_at, t);
        contents_at = t;
        design.load(run.state(t));
        stale = zeros();
        free_lanes = ones();
        clear(free_lanes, 0);
        next_limit = 0xffffffffu;
        left_behind = false;
    }

    // ------------------------------------------------------------------------- to go on with later

    // Take the experiments out of their lanes at the start of cycle t; their numbers in a queue.
    Numbers park_all(uint32_t t) {
        const V lanes = busy;
        std::array<uint32_t, LANES> place;
        Numbers queue;
        each(lanes, [&](uint32_t lane) {
            queue.push_back(park(lane, t, t));
            place[lane] = queue.back() - uint32_t(job.size());
        });
        for (uint32_t i = 0; i < STATE_BITS; ++i)
            each((design.q[i] ^ spread(golden(design.q[i]))) & lanes,
                 [&](uint32_t lane) { parked[place[lane]].bits.push_back(i); });
        return queue;
    }

    // All but the bits of the state, at the start of cycle t, to go on in cycle `until` of which
    // only words differ that are not overwritten before; its number in a queue.
    uint32_t park(uint32_t lane, uint32_t t, uint32_t until) {
        if (spare.empty()) {
            spare.push_back(uint32_t(parked.size()));
            parked.emplace_back();
        }
        const uint32_t entry = spare.back();
        spare.pop_back();
        Parked& p = parked[entry];
        p.experiment = experiment[lane];
        p.own_rows.swap(own_rows[lane]);
        if ((p.astray = bit(astray, lane))) p.stray = strays[lane];
        for (const auto& [m, a] : design.memories.differing_words(lane)) {
            if (ChangeLog::next(run.log.kills[m][a], t) < until) continue;
            const uint64_t* word = design.memories.word(m, a, lane);
            p.places.push_back({m, a});
            p.words.insert(p.words.end(), word, word + design.contents.size[m]);
        }
        clear(astray, lane);
        leave(lane);
        return uint32_t(job.size() + entry);
    }

    void resume(uint32_t lane, Parked& p) {
        for (uint32_t i : p.bits) invert(design.q[i], lane);
        const uint64_t* word = p.words.data();
        for (const auto& [m, a] : p.places) {
            design.memories.put(m, a, lane, word);
            word += design.contents.size[m];
        }
        own_rows[lane].swap(p.own_rows);
        if (p.astray) {
            set(astray, lane);
            std::swap(strays[lane], p.stray);
        }
        for (auto clear_all : {&p.own_rows, &p.bits}) clear_all->clear();
        p.places.clear(), p.words.clear();
    }

    // ------------------------------------------------------------------------------------ events

    void launch(Numbers& waiting_here, uint32_t t) {
        if (any(stale) && count(free_lanes) < waiting_here.size()) heal();
        while (!waiting_here.empty() && any(free_lanes)) {
            const uint32_t number = waiting_here.back();
            waiting_here.pop_back();
            const uint32_t x = number < job.size() ? number : parked[number - job.size()].experiment;
            const uint32_t lane = wanders[job.target[job.first[x]]] ? last(free_lanes) : first(free_lanes);
            clear(free_lanes, lane);
            set(busy, lane);
            own_rows[lane].clear();
            look_again[lane] = 0;
            if (number >= job.size()) {
                resume(lane, parked[number - job.size()]);
                spare.push_back(number - uint32_t(job.size()));
            }
            next_limit = std::min(next_limit, job.limit[x]);
            expect(lane, x, t);
        }
    }

    // -------------------------------------------------------------------------------- one cycle

    void step(uint32_t t) {
        design.drive(&trace.in[(trace.lead + t) * trace.in_bytes]);
        if (any(astray)) each(astray, [&](uint32_t lane) { strays[lane].drive(streams, design.w, lane, t); });
        expand(run.state(t + 1), design.masks.data());
        design.evaluate(busy);
        observe(t);
        design.advance(busy);
        ++contents_at;
    }

    void observe(uint32_t t) {
        note(trace.retried, 1);
        note(trace.corrected, 2);
        const V diverged = design.outputs_differ(trace, trace.shake, t) & busy & ~astray;
        if (any(diverged)) each(diverged, [&](uint32_t lane) { stray(lane, t); });
        const V wrong = design.outputs_differ(trace, trace.care, t) & busy & ~astray;
        if (any(wrong)) each(wrong, [&](uint32_t lane) { record(lane, t); });
        if (any(astray)) each(astray, [&](uint32_t lane) {
            strays[lane].observe(streams, design.w + FIRST_OUT, lane, t, frames);
            result.detect(streams, design.w + FIRST_OUT, lane, experiment[lane], t);
        });
    }

    // From now on the lane has an environment of its own, which takes over the current frame.
    void stray(uint32_t lane, uint32_t t) {
        if (!streams.frames) return finish(lane, DIVERGED, t);
        const uint32_t x = experiment[lane];
        Stray& own = strays[lane];
        own.begin(streams, x, t, job.limit[x]);
        const uint32_t beat = own.beat;
        for (uint32_t row : own_rows[lane]) {
            if (streams.delivered[rows_cycle[row]] / streams.beats_out != own.frame) continue;
            replay(own, row);
            rows_experiment[row] = DROPPED;
        }
        own.beat = beat;
        result.strayed[x] = 1;
        set(astray, lane);
    }

    // A beat of the fault-free handshake that was recorded.
    void replay(Stray& own, uint32_t row) {
        const uint8_t* out = &rows_out[row * trace.out_bytes];
        const auto one = [&](uint64_t i) { return bool(out[i >> 3] >> (i & 7) & 1); };
        Bytes data(streams.bytes_out);
        for (uint64_t i = 0; i < streams.out_bits; ++i)
            data[i >> 3] |= uint8_t(one(streams.out_data + i)) << (i & 7);
        own.beat = uint32_t(streams.delivered[rows_cycle[row]] % streams.beats_out);
        const bool err = streams.out_err < OUT_BITS && one(streams.out_err);
        own.receive(streams, data.data(), err, own.beat == 0, own.beat == streams.beats_out - 1);
    }

    void note(const Bytes& mask, uint8_t event) {
        const V lanes = design.outputs_set(mask) & busy;
        if (any(lanes)) each(lanes, [&](uint32_t lane) { result.events[experiment[lane]] |= event; });
    }

    void record(uint32_t lane, uint32_t t) {
        if (streams.frames) own_rows[lane].push_back(uint32_t(rows_cycle.size()));
        result.detect(streams, design.w + FIRST_OUT, lane, experiment[lane], t);
        rows_experiment.push_back(experiment[lane]);
        rows_cycle.push_back(t);
        const size_t at = rows_out.size();
        rows_out.resize(at + trace.out_bytes);
        for (uint32_t i = 0; i < OUT_BITS; ++i)
            rows_out[at + (i >> 3)] |= uint8_t(bit(design.w[FIRST_OUT + i], lane)) << (i & 7);
    }

    // ------------------------------------------------------------------------------ end of watch

    // At the start of cycle t: lanes that are golden again, and lanes whose watch ends.
    void settle(uint32_t t) {
        release_stuck(t);
        V candidates = busy & ~waiting;
        if (any(astray)) each(astray, [&](uint32_t lane) {
            if (!strays[lane].same(streams, t)) clear(candidates, lane);
        });
        if (any(candidates)) {
            const Difference differs = t <= job.merge_until ? count_differences() : compared();
            const V& remember = design.memories.has;
            each(candidates & ~differs.one & remember, [&](uint32_t lane) { wait(lane, t); });
            const V same = candidates & ~differs.one & ~remember & busy;
            each(same, [&](uint32_t lane) {
                finish(lane, GOLDEN, t);
                release(lane);
            });
            const V single = candidates & differs.one & ~differs.two & ~remember & ~astray;
            if (any(single)) merge(single, t);
        }
        if (any(astray)) each(V(astray), [&](uint32_t lane) { judge(lane, t); });
        if (t < next_limit) return;
        next_limit = 0xffffffffu;
        each(V(busy & ~astray), [&](uint32_t lane) {
            if (job.limit[experiment[lane]] <= t) finish(lane, BOUND, t);
            else next_limit = std::min(next_limit, job.limit[experiment[lane]]);
        });
    }

    // At the start of cycle t only words of memories differ: all stays golden until one is read. The
    // lane waits for that outside; what nothing reads before the watch ends is decided now.
    void wait(uint32_t lane, uint32_t t) {
        if (t < look_again[lane]) return;
        uint32_t until = ChangeLog::NEVER, golden_from = 0;
        for (const auto& [m, a] : design.memories.differing_words(lane)) {
            const uint32_t use = ChangeLog::next(run.log.uses[m][a], t);
            const uint32_t kill = ChangeLog::next(run.log.kills[m][a], t);
            golden_from = std::max(golden_from, kill);
            if (use <= kill) until = std::min(until, use);
            if (until >= t + WORTH_WAITING) continue;
            look_again[lane] = until + 4;
            return;
        }
        const uint32_t limit = job.limit[experiment[lane]];
        if (until >= limit) {
            const bool again = golden_from < limit;
            finish(lane, again ? GOLDEN : BOUND, again ? golden_from + 1 : limit);
        } else {
            if (bit(astray, lane)) return;
            cycles[until].push_back(park(lane, t, until));
        }
        release(lane);
    }

    // A lane with an environment of its own that is not golden.
    void judge(uint32_t lane, uint32_t t) {
        const Stray& own = strays[lane];
        if (!bit(waiting, lane)) {
            const uint32_t reached = own.late(streams);
            if (reached && reached != t && reaches(lane, reached)) {
                if (reached < run.from || reached > run.to) return finish(lane, DIVERGED, t);
                if (design.memories.as_in(reached, lane, run.log, t)) return finish(lane, GOLDEN, t);
            }
        }
        if (own.frame >= own.end_frame) return finish(lane, BOUND, t);
        if (t > streams.frame_done[own.frame] + streams.slack_cycles) return finish(lane, HANG, t);
        if (t >= run.to) finish(lane, DIVERGED, t);
    }

    // Whether the lane's flip-flops may be the fault-free ones of another cycle.
    bool reaches(uint32_t lane, uint32_t cycle) const {
        if (cycle < run.from || cycle > run.to) return true;
        const uint8_t* state = run.state(cycle);
        for (uint32_t i = 0; i < STATE_BITS; ++i)
            if (bit(design.q[i], lane) != bool(state[i >> 3] >> (i & 7) & 1)) return false;
        return true;
    }

    void finish(uint32_t lane, End end, uint32_t t) {
        const uint32_t x = experiment[lane];
        if (result.ends[x] != NOT_LANDED) result.ends[x] = end;
        result.end_cycles[x] = t;
        ++ended;
        if (bit(astray, lane) && (end == GOLDEN || end == BOUND)) strays[lane].emit(frames);
        clear(astray, lane);
        leave(lane);
    }

    void leave(uint32_t lane) {
        if (bit(design.memories.apart, lane)) {
            wanders[job.target[job.first[experiment[lane]]]] = true;
            clear(design.memories.apart, lane);
        }
        clear(busy, lane);
        set(stale, lane);
        design.memories.reset(lane);
        forget(lane);
    }

    // The lane's state is the fault-free one.
    void release(uint32_t lane) {
        clear(stale, lane);
        set(free_lanes, lane);
    }

    void merge(const V& lanes, uint32_t t) {
        for (uint32_t i = 0; i < STATE_BITS; ++i) {
            const V differs = (design.q[i] ^ (V{} + design.masks[i])) & lanes;
            if (!any(differs)) continue;
            each(differs, [&](uint32_t lane) {
                result.merged_bit[experiment[lane]] = i;
                finish(lane, MERGED, t);
                release(lane);
            });
            design.q[i] ^= differs;
        }
    }

    // Lanes in which at least one, at least two bits of the state are not the fault-free ones.
    struct Difference { V one, two; };

    Difference compared() const { return checked({design.differs, ones()}); }

    Difference count_differences() const {
        V one = zeros(), two = zeros();
        for (uint32_t i = 0; i < STATE_BITS; ++i) {
            const V differs = design.q[i] ^ (V{} + design.masks[i]);
            two |= one & differs;
            one |= differs;
        }
        return checked({one, two});
    }

    static Difference checked(const Difference& differs) {
        if (golden(differs.one)) throw std::runtime_error("the fault-free lane is not fault-free");
        return differs;
    }

    // Lanes that ended elsewhere follow the fault-free run again.
    void heal() {
        for (uint32_t i = 0; i < STATE_BITS; ++i)
            design.q[i] = (design.q[i] & ~stale) | (spread(golden(design.q[i])) & stale);
        free_lanes |= stale;
        stale = zeros();
    }
};
