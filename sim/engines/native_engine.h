// Fault experiments on a cut model: the next state is a pure function of the state, the inputs and
// the memories, all of which this program owns. What drives the inputs and judges the outputs is
// the environment (native_stream.cpp, native_trace.cpp).
//
// usage: model SETUP GOLDEN. Runs without faults, writes GOLDEN, then for each line "JOB RESULT" of
// standard input runs the experiments of JOB, writes RESULT and answers with an empty line. All
// files are little endian; engines/native_process.py writes and reads them.
//
// An environment has, beside its constructor (Model&, Reader&):
//   reset(Memories&)                what comes before cycle 0
//   drive(t)                        set the inputs of cycle t
//   golden_cycle(t) -> bool         look at the outputs; true: keep the state after this cycle
//   golden_over(t), golden_end(t)   whether cycle t is the end of the fault-free run; its last words
//   start(x, t, limit)              experiment x from the golden state of cycle t; what bounds it
//   observe(t) -> bool              look at the outputs; true: the experiment is over (VISIBLE)
//   same(t)                         whether its state is that of the fault-free run in cycle t
//   late()                          the fault-free cycle that the experiment may have reached late
//   verdict(t)                      GOLDEN while the watch goes on, BOUND or HANG
//   watch_end(), end_when_late(t)   golden cycle at which the watch ends; first golden cycle from t
//                                   on at which late() can be true
//   jump(t)                         the state of the fault-free run in cycle t
//   finish(end)                     the experiment is over
//   write_golden(Writer&), write(Writer&)

enum End : uint8_t { GOLDEN = 0, BOUND = 1, HANG = 2, NOT_LANDED = 3, VISIBLE = 4 };
enum Mode : uint32_t { FLIP = 0 };  // else 1 + the value at which the bit is stuck

struct Job {
    uint64_t experiments, events, wanted;
    Numbers first, target, mode, start, stop, limits;  // limits: environment's bound, per experiment
    Numbers cycles;                                    // whose golden state is wanted

    explicit Job(Reader file)
        : experiments(file.number()), events(file.number()), wanted(file.number()),
          first(file.array<uint32_t>(experiments + 1)), target(file.array<uint32_t>(events)),
          mode(file.array<uint32_t>(events)), start(file.array<uint32_t>(events)),
          stop(file.array<uint32_t>(events)), limits(file.array<uint32_t>(experiments)),
          cycles(file.array<uint32_t>(wanted)) {}
};

template <class Environment> class Engine {
    Model model;
    Memories memories{model};
    uint64_t state_budget_bytes, access_budget_bytes;
    Environment environment;

    uint32_t cycles = 0, stride = 1;  // golden states are kept of each cycle that `stride` divides
    Bytes states, marked_states;
    Numbers marks;                    // further cycles whose states are kept

    Numbers queue, active;            // events of the experiment: to come, holding
    Bytes before;
    uint64_t evaluations = 0;

public:
    explicit Engine(Reader setup)
        : state_budget_bytes(setup.number()), access_budget_bytes(setup.number()),
          environment(model, setup) {}

    // ------------------------------------------------------------------------ the golden run

    void run_golden(uint32_t max_cycles) {
        environment.reset(memories);
        memories.begin_golden(max_cycles, state_budget_bytes, access_budget_bytes);
        stride = uint32_t(1 + uint64_t(model.state_bytes) * max_cycles / state_budget_bytes);
        for (; !environment.golden_over(cycles); ++cycles) {
            if (cycles >= max_cycles) throw std::runtime_error("golden: no end");
            if (cycles % stride == 0) keep(states);
            step(cycles);
            const bool mark = environment.golden_cycle(cycles);
            memories.golden_cycle(cycles);
            model.advance();
            if (!mark || stride == 1) continue;
            marks.push_back(cycles + 1);
            keep(marked_states);
        }
        if (cycles % stride == 0) keep(states);
        environment.golden_end(cycles);
        memories.end_golden(cycles);
    }

    uint32_t max_cycles() const { return environment.max_cycles; }

    void write_golden(Writer file) {
        file.number(cycles);
        environment.write_golden(file);
        file.close();
    }

    // --------------------------------------------------------------------------- experiments

    void run_job(const Job& job, Writer file) {
        Bytes ends(job.experiments);
        Numbers end_cycles(job.experiments), order(job.experiments);
        std::iota(order.begin(), order.end(), 0u);
        const auto begin = [&](uint32_t x) { return job.start[first_event(job, x)]; };
        std::stable_sort(order.begin(), order.end(),
                         [&](uint32_t a, uint32_t b) { return begin(a) < begin(b); });
        environment.begin_job(job.experiments);
        for (uint32_t x : order) {
            uint32_t t = 0;
            ends[x] = experiment(job, x, t);
            end_cycles[x] = t;
            environment.finish(End(ends[x]));
        }
        const Bytes wanted = wanted_states(job);
        file.number(wanted.size());
        file.number(evaluations);
        file.number(stride);
        file.array(ends);
        file.array(end_cycles);
        file.array(wanted);
        environment.write(file);
        file.close();
    }

private:
    void keep(Bytes& to) {
        to.resize(to.size() + model.state_bytes);
        model.save(to.data() + to.size() - model.state_bytes);
    }

    void step(uint32_t t) {
        environment.drive(t);
        Vtop___024root___eval(&model.root);  // without the bookkeeping of Vtop::eval
        ++evaluations;
    }

    uint32_t kept_before(uint32_t t) const { return t / stride * stride; }

    // The golden state at the start of a cycle; null where none was kept.
    const uint8_t* golden_state(uint32_t t) const {
        if (t > cycles) return nullptr;
        if (t % stride == 0) return &states[size_t(t / stride) * model.state_bytes];
        const auto at = std::lower_bound(marks.begin(), marks.end(), t);
        if (at == marks.end() || *at != t) return nullptr;
        return &marked_states[size_t(at - marks.begin()) * model.state_bytes];
    }

    // All but memories equal to the fault-free run at the start of `t`; and the memories compared.
    bool logic_is_golden(uint32_t t) {
        if (t > cycles || !environment.same(t)) return false;
        const uint8_t* state = golden_state(t);
        if (!state || !model.equals(state)) return false;
        memories.compare_with(t);
        return true;
    }

    static uint32_t first_event(const Job& job, uint32_t x) {
        const auto at = job.start.begin();
        return uint32_t(std::min_element(at + job.first[x], at + job.first[x + 1]) - at);
    }

    End experiment(const Job& job, uint32_t x, uint32_t& t) {
        queue.clear();
        active.clear();
        for (uint32_t i = job.first[x + 1]; i-- > job.first[x];) queue.push_back(i);
        std::stable_sort(queue.begin(), queue.end(),
                         [&](uint32_t a, uint32_t b) { return job.start[a] > job.start[b]; });
        const uint32_t first = job.start[queue.back()];
        t = kept_before(first);
        memories.restore(t);
        model.load(golden_state(t));
        environment.start(x, t, job.limits[x]);
        bool skip = true;  // there is nothing to compare
        for (;; ++t) {
            active.erase(std::remove_if(active.begin(), active.end(),
                                        [&](uint32_t i) { return job.stop[i] <= t; }),
                         active.end());
            if (t > first && active.empty() && !skip) {
                End end = GOLDEN;
                switch (look(job, t, end)) {
                    case OVER: return end;
                    case JUMPED: skip = true; break;
                    case GO_ON: break;
                }
            }
            if (const End end = environment.verdict(t)) return end;
            if (!strike(job, t)) return NOT_LANDED;
            step(t);
            if (environment.observe(t)) return VISIBLE;
            memories.store();
            model.advance();
            skip = false;
        }
    }

    // Strike with the events of this cycle; true if they changed what they were to change.
    bool strike(const Job& job, uint32_t t) {
        bool landed = true;
        if (!queue.empty() && job.start[queue.back()] <= t) {
            before.resize(model.state_bytes);
            model.save(before.data());
            for (; !queue.empty() && job.start[queue.back()] <= t; queue.pop_back()) {
                const uint32_t i = queue.back();
                if (job.mode[i] != FLIP) active.push_back(i);
                else landed = flip(job.target[i]) && landed;
            }
            landed = landed && model.equals(before.data());
        }
        for (uint32_t i : active) landed = force(job.target[i], job.mode[i] - 1 != 0) && landed;
        return landed;
    }

    // Invert a bit of the model; of a flip-flop in `before` as well, to compare with.
    bool flip(uint32_t target) {
        if (target >= model.bits.size()) return flip_memory(target - model.bits.size());
        const auto [n, position] = model.bits[target];
        const Register& r = model.registers[n];
        r.state[position >> 3] ^= uint8_t(1u << (position & 7));
        before[r.offset + (position >> 3)] ^= uint8_t(1u << (position & 7));
        return true;
    }

    bool flip_memory(uint64_t bit) {
        const auto [number, position] = memories.locate(bit);
        Bytes word = memories.word(number);
        word[position >> 3] ^= uint8_t(1u << (position & 7));
        memories.set_word(number, word);
        return memories.word(number) == word;
    }

    bool force(uint32_t target, bool value) {
        if (target >= model.bits.size()) {
            const auto [number, position] = memories.locate(target - model.bits.size());
            const bool now = memories.word(number)[position >> 3] >> (position & 7) & 1;
            return now == value || flip_memory(target - model.bits.size());
        }
        const auto [n, position] = model.bits[target];
        uint8_t& byte = model.registers[n].state[position >> 3];
        const uint8_t mask = uint8_t(1u << (position & 7));
        byte = uint8_t(value ? byte | mask : byte & ~mask);
        return true;
    }

    // ---------------------------------------------------------------------- early termination

    enum Look { GO_ON, JUMPED, OVER };

    // No stuck-at holds. If flip-flops, inputs and environment are golden, all that differs are
    // words of memories, and all stays golden until such a word is read: the reads have golden
    // addresses and all other data is golden. A word that is overwritten whole before it is read
    // is golden from then on, since the written data is golden too.
    Look look(const Job& job, uint32_t& t, End& end) {
        const bool quiet = queue.empty();
        if (logic_is_golden(t)) {
            if (quiet && memories.differing.empty()) return OVER;
            if (!memories.accesses.known) return GO_ON;
            const auto [next_read, last_kill] = horizon(t);
            const uint32_t next_event = quiet ? NEVER : job.start[queue.back()];
            const uint32_t until = std::min(next_read, next_event), watch = environment.watch_end();
            if (until < watch) return jump(t, until);
            environment.jump(watch);
            const bool golden = quiet && last_kill < watch;
            end = golden ? GOLDEN : BOUND;
            t = golden ? last_kill + 1 : watch;
            return OVER;
        }
        const uint32_t reached = quiet ? environment.late() : NEVER;
        if (reached == NEVER || reached == t || !logic_is_golden(reached)) return GO_ON;
        if (memories.differing.empty()) return OVER;
        if (!memories.accesses.known) return GO_ON;
        const auto [next_read, last_kill] = horizon(reached);
        const uint32_t watch = environment.watch_end();
        if (next_read < watch) return GO_ON;
        const uint32_t late = t - reached;
        environment.jump(watch);
        end = last_kill < watch ? GOLDEN : BOUND;
        t = late + (end == GOLDEN ? environment.end_when_late(last_kill + 1) : watch);
        return OVER;
    }

    // The first cycle from golden cycle t on that reads a differing word which is not yet
    // overwritten; the cycle in which the last of them is overwritten. NEVER: there is none.
    std::pair<uint32_t, uint32_t> horizon(uint32_t t) const {
        uint32_t next_read = NEVER, last_kill = 0;
        for (uint32_t word : memories.differing) {
            const uint32_t read = memories.accesses.next_read(word, t);
            const uint32_t kill = memories.accesses.next_kill(word, t);
            last_kill = std::max(last_kill, kill);
            if (read <= kill) next_read = std::min(next_read, read);
        }
        return {next_read, last_kill};
    }

    // To the golden state of a later cycle, with the words that still differ then.
    Look jump(uint32_t& t, uint32_t until) {
        const uint32_t to = kept_before(until);
        if (to <= t) return GO_ON;
        std::vector<std::pair<uint32_t, Bytes>> words;
        for (uint32_t word : memories.differing)
            if (memories.accesses.next_kill(word, t) >= to) words.push_back({word, memories.word(word)});
        memories.restore(to);
        for (const auto& [number, word] : words) memories.set_word(number, word);
        model.load(golden_state(to));
        environment.jump(to);
        t = to;
        return JUMPED;
    }

    // Golden states in register order.
    Bytes wanted_states(const Job& job) {
        Bytes all;
        for (uint32_t cycle : job.cycles) {
            uint32_t t = kept_before(cycle);
            memories.restore(t);
            model.load(golden_state(t));
            environment.start(0, t, NEVER);
            for (; t < cycle; ++t) {
                step(t);
                environment.observe(t);
                memories.store();
                model.advance();
            }
            for (const Register& r : model.registers)
                all.insert(all.end(), r.state, r.state + r.bytes);
        }
        return all;
    }
};

template <class Environment> int serve(int argc, char** argv) {
    try {
        if (argc != 3) throw std::runtime_error("usage: model SETUP GOLDEN");
        Engine<Environment> engine{Reader(argv[1])};
        engine.run_golden(engine.max_cycles());
        engine.write_golden(Writer(argv[2]));
        std::cout << std::endl;
        for (std::string job, result; std::cin >> job >> result;) {
            engine.run_job(Job(Reader(job)), Writer(result));
            std::cout << std::endl;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
