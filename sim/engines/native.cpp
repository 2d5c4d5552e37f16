// Register-fault campaign over a cut model: the next state is a pure function of the state, the
// inputs and the memories, all of which this program owns.
//
// usage: model JOB RESULT. Both files are little endian; engines/native.py writes and reads them.
// native_model.py puts its tables and native_model.h before this text.

struct Campaign {
    const Job& job;
    const Header& h;
    Model model;
    Golden golden;
    Image own, shadow;            // the model's memories between experiments; golden beside a fault
    std::vector<Bytes> shadow_words;
    std::vector<Change> undo;
    Bytes undo_bytes, value;      // value: the word being written
    int64_t different = 0;        // memory words that differ from the shadow
    uint32_t source = 0;          // beats accepted
    bool in = false, out = false;
    uint64_t evaluations = 0;

    // results
    Bytes ends, events, visible_flags, visible_words;
    std::vector<uint32_t> end_cycles, visible_experiment, visible_frame;

    explicit Campaign(const Job& j) : job(j), h(j.header) {}

    static bool allowed(const Bytes& pattern, uint32_t cycle) {
        return pattern.empty() || pattern[cycle % pattern.size()];
    }

    void evaluate(uint32_t cycle) {
        const uint64_t total = h.frames * h.beats_in, beat = source % h.beats_in;
        const bool valid = source < total && allowed(job.offer, cycle);
        TERCET_OUT_READY = allowed(job.ready, cycle);
        TERCET_IN_VALID = valid;
        TERCET_IN_FIRST = valid && beat == 0;
        TERCET_IN_LAST = valid && beat == h.beats_in - 1;
        if (valid)
            std::memcpy(&TERCET_IN_DATA, &job.words_in[source * h.bytes_in], h.bytes_in);
        else
            std::memset(&TERCET_IN_DATA, 0, h.bytes_in);
        model.top.eval();
        ++evaluations;
        in = valid && TERCET_IN_READY;
        out = TERCET_OUT_VALID && TERCET_OUT_READY;
    }

    uint8_t* word(Image& image, uint32_t memory, uint32_t address) {
        return image.words[memory] + size_t(address) * model.memories[memory].bytes;
    }

    // Call `store(memory, address, new word)` for each memory word that this cycle writes.
    template <class F> void each_write(F store) {
        for (const WritePort& port : model.writes) {
            const Memory& memory = model.memories[port.memory];
            if (is_zero(port.enable, memory.bytes)) continue;
            uint64_t address = 0;
            std::memcpy(&address, port.address, port.address_bytes);
            address -= memory.offset;
            if (address >= memory.depth) continue;
            const uint8_t* old = memory.words + address * memory.bytes;
            value.assign(old, old + memory.bytes);
            for (uint32_t i = 0; i < memory.bytes; ++i)
                value[i] = (old[i] & ~port.enable[i]) | (port.data[i] & port.enable[i]);
            store(port.memory, uint32_t(address), value.data());
        }
    }

    static void note(std::vector<Change>& log, Bytes& bytes, uint32_t memory, uint32_t address,
                     const uint8_t* old, const uint8_t* value, uint32_t size) {
        log.push_back({memory, address, bytes.size()});
        bytes.insert(bytes.end(), old, old + size);
        bytes.insert(bytes.end(), value, value + size);
    }

    // Overwrite one word of one image and keep count of the words in which the two differ.
    void put(Image& image, uint32_t memory, uint32_t address, const uint8_t* value) {
        const uint32_t size = model.memories[memory].bytes;
        uint8_t *mine = word(image, memory, address), *a = word(own, memory, address),
                *b = word(shadow, memory, address);
        const bool before = differ(a, b, size);
        copy_word(mine, value, size);
        different += int(differ(a, b, size)) - int(before);
    }

    void seek(Image& image, uint32_t cycle) {
        while (image.cycle < cycle) {
            for (uint32_t i = golden.first_change[image.cycle];
                 i < golden.first_change[image.cycle + 1]; ++i) {
                const Change& c = golden.changes[i];
                put(image, c.memory, c.address,
                    &golden.change_bytes[c.bytes + model.memories[c.memory].bytes]);
            }
            ++image.cycle;
        }
        while (image.cycle > cycle) {
            --image.cycle;
            for (uint32_t i = golden.first_change[image.cycle + 1];
                 i-- > golden.first_change[image.cycle];) {
                const Change& c = golden.changes[i];
                put(image, c.memory, c.address, &golden.change_bytes[c.bytes]);
            }
        }
    }

    void reset() {
        TERCET_OUT_READY = 1;
        TERCET_RESET = 1;
        TERCET_IN_VALID = 0;
        for (uint64_t i = 0; i < h.reset_cycles; ++i) {
            model.top.eval();
            each_write([&](uint32_t m, uint32_t a, const uint8_t* value) {
                std::memcpy(word(own, m, a), value, model.memories[m].bytes);
            });
            model.advance();
        }
        TERCET_RESET = 0;
    }

    void run_golden() {
        for (Memory& m : model.memories) {
            own.words.push_back(m.words);
            shadow_words.emplace_back(size_t(m.bytes) * m.depth);
        }
        for (Bytes& words : shadow_words) shadow.words.push_back(words.data());
        reset();
        for (size_t m = 0; m < model.memories.size(); ++m)
            std::memcpy(shadow_words[m].data(), own.words[m], shadow_words[m].size());
        golden.stride = uint32_t(1 + model.state_bytes * h.max_cycles / h.state_budget_bytes);
        uint32_t beats = 0;
        while (golden.frame_done.size() < h.frames) {
            if (golden.cycles >= h.max_cycles) throw std::runtime_error("golden: no end");
            golden_cycle(beats);
        }
        if (golden.frame_accepted.size() != h.frames)
            throw std::runtime_error("golden: more frames came out than went in");
        own.cycle = golden.cycles;
        golden.accepted.push_back(source);
        golden.delivered.push_back(beats);
        golden.first_change.push_back(uint32_t(golden.changes.size()));
    }

    void golden_cycle(uint32_t& beats) {
        Golden& g = golden;
        const uint32_t t = g.cycles;
        if (t % g.stride == 0) keep_state(g.states);
        g.accepted.push_back(source);
        g.delivered.push_back(beats);
        g.first_change.push_back(uint32_t(g.changes.size()));
        evaluate(t);
        if (TERCET_RETRIED || TERCET_CORRECTED) throw std::runtime_error("golden: a correction");
        if (in && source % h.beats_in == 0) g.frame_accepted.push_back(t);
        if (out) {
            const uint32_t beat = beats % h.beats_out;
            const bool last = beat == h.beats_out - 1;
            if (TERCET_OUT_ERR) throw std::runtime_error("golden: the error flag is raised");
            if (bool(TERCET_OUT_FIRST) != (beat == 0) || bool(TERCET_OUT_LAST) != last)
                throw std::runtime_error("golden: a frame has a wrong number of beats");
            const uint8_t* data = (const uint8_t*)&TERCET_OUT_DATA;
            g.words_out.insert(g.words_out.end(), data, data + h.bytes_out);
            ++beats;
            if (last) g.frame_done.push_back(t);
        }
        source += in;
        each_write([&](uint32_t m, uint32_t a, const uint8_t* value) {
            uint8_t* old = word(own, m, a);
            note(g.changes, g.change_bytes, m, a, old, value, model.memories[m].bytes);
            std::memcpy(old, value, model.memories[m].bytes);
        });
        model.advance();
        ++g.cycles;
        if (g.frame_done.size() * model.state_bytes > g.frame_states.size())
            keep_state(g.frame_states);
    }

    void keep_state(Bytes& to) {
        to.resize(to.size() + model.state_bytes);
        model.save(to.data() + to.size() - model.state_bytes);
    }

    // ------------------------------------------------------------------------------- one fault

    enum End : uint8_t { GOLDEN = 0, BOUND = 1, HANG = 2, NOT_LANDED = 3 };
    enum Flag : uint8_t { WRONG = 1, MALFORMED = 2, FLAGGED = 4, ERR = 8 };

    // The output frame that is being received, compared with the golden one.
    struct Sink {
        uint32_t frame = 0, beat = 0;
        uint8_t flags = 0;
        Bytes words;
    } sink;

    const uint8_t* golden_word(uint32_t frame, uint32_t beat) const {
        return &golden.words_out[(size_t(frame) * h.beats_out + beat) * h.bytes_out];
    }

    void emit(uint32_t experiment) {
        if (sink.flags) {
            visible_experiment.push_back(experiment);
            visible_frame.push_back(sink.frame);
            visible_flags.push_back(sink.flags);
            visible_words.insert(visible_words.end(), sink.words.begin(), sink.words.end());
        }
        begin_frame(sink.frame + 1);
    }

    void begin_frame(uint32_t frame) {
        sink.frame = frame;
        sink.beat = 0;
        sink.flags = 0;
        if (frame < golden.frame_done.size())
            std::copy_n(golden_word(frame, 0), sink.words.size(), sink.words.begin());
    }

    // Take one output beat; true when it ended the frame.
    bool receive(uint32_t experiment) {
        const bool over = sink.beat >= h.beats_out, last = TERCET_OUT_LAST;
        if (TERCET_OUT_ERR) {
            sink.flags |= ERR;
            if (!(sink.flags & WRONG)) sink.flags |= FLAGGED;
        }
        if (over || bool(TERCET_OUT_FIRST) != (sink.beat == 0) ||
            last != (sink.beat == h.beats_out - 1))
            sink.flags |= WRONG | MALFORMED;
        if (!over) {
            uint8_t* mine = &sink.words[sink.beat * h.bytes_out];
            if (std::memcmp(mine, &TERCET_OUT_DATA, h.bytes_out)) sink.flags |= WRONG;
            std::memcpy(mine, &TERCET_OUT_DATA, h.bytes_out);
        }
        ++sink.beat;
        if (last) emit(experiment);
        return last;
    }

    void store_fault() {
        each_write([&](uint32_t m, uint32_t a, const uint8_t* value) {
            note(undo, undo_bytes, m, a, word(own, m, a), value, model.memories[m].bytes);
            put(own, m, a, value);
        });
    }

    void roll_back() {
        while (!undo.empty()) {
            const Change c = undo.back();
            put(own, c.memory, c.address, &undo_bytes[c.bytes]);
            undo.pop_back();
        }
        undo_bytes.clear();
    }

    // Flip the bits of the experiment; true if exactly these bits of the state changed.
    bool flip(uint32_t experiment) {
        Bytes expected(model.state_bytes);
        model.save(expected.data());
        for (uint32_t i = job.first_flip[experiment]; i < job.first_flip[experiment + 1]; ++i) {
            const auto [n, position] = model.bits.at(job.flip_bits[i]);
            const Register& r = model.registers[n];
            r.state[position >> 3] ^= uint8_t(1u << (position & 7));
            expected[r.offset + (position >> 3)] ^= uint8_t(1u << (position & 7));
        }
        return model.equals(expected.data());
    }

    // True if state, memories and environment equal the golden ones at the start of `cycle`, when
    // the golden state was `state`.
    bool equals_golden(uint32_t cycle, const uint8_t* state) {
        if (cycle < golden.cycles) {
            const uint32_t delivered = golden.delivered[cycle];
            if (source != golden.accepted[cycle]) return false;
            if (sink.frame != delivered / h.beats_out || sink.beat != delivered % h.beats_out)
                return false;
        }
        if (!model.equals(state)) return false;
        seek(shadow, cycle);
        return different == 0;
    }

    bool is_golden(uint32_t cycle) {
        if (cycle >= golden.cycles || cycle % golden.stride) return false;
        return equals_golden(cycle, &golden.states[size_t(cycle / golden.stride) * model.state_bytes]);
    }

    // After a frame, also compare with the golden state after the same frame: an inference that
    // took longer leaves everything golden but late.
    bool is_golden_after_frame() {
        if (!job.offer.empty() || !job.ready.empty()) return false;  // the stalls are not late
        const uint32_t frame = sink.frame - 1;
        return equals_golden(golden.frame_done[frame] + 1,
                             &golden.frame_states[size_t(frame) * model.state_bytes]);
    }

    void start(uint32_t cycle) {
        seek(own, cycle);
        seek(shadow, cycle);
        different = 0;
        model.load(&golden.states[size_t(cycle / golden.stride) * model.state_bytes]);
        source = golden.accepted[cycle];
        const uint32_t delivered = golden.delivered[cycle];
        sink.words.resize(h.beats_out * h.bytes_out);
        begin_frame(uint32_t(delivered / h.beats_out));
        sink.beat = uint32_t(delivered % h.beats_out);
    }

    void run_fault(uint32_t experiment) {
        const uint32_t when = job.cycles[experiment], begin = when / golden.stride * golden.stride;
        start(begin);
        const auto next_done =
            std::lower_bound(golden.frame_done.begin(), golden.frame_done.end(), when);
        const uint64_t end_frame =
            std::min<uint64_t>((next_done - golden.frame_done.begin()) + h.bound_frames, h.frames);
        End end = BOUND;
        uint32_t t = begin;
        for (;; ++t) {
            if (t == when && !flip(experiment)) { end = NOT_LANDED; break; }
            const bool over = sink.frame >= end_frame;
            // Most faults vanish at once; later a comparison every fourth cycle is enough.
            const bool look = over || t - when < 8 || t % 4 == 0;
            if (t > when && look && is_golden(t)) { end = GOLDEN; break; }
            if (over) break;
            if (t > golden.frame_done[sink.frame] + h.slack_cycles) { end = HANG; break; }
            evaluate(t);
            events[experiment] |= uint8_t((TERCET_RETRIED ? 1 : 0) | (TERCET_CORRECTED ? 2 : 0));
            const bool done = out && receive(experiment);
            source += in;
            store_fault();
            model.advance();
            if (done && t >= when && is_golden_after_frame()) { end = GOLDEN; ++t; break; }
        }
        if (end == GOLDEN && sink.flags) emit(experiment);
        ends[experiment] = end;
        end_cycles[experiment] = t;
        roll_back();
    }

    void run_faults() {
        ends.assign(h.experiments, 0);
        end_cycles.assign(h.experiments, 0);
        events.assign(h.experiments, 0);
        std::vector<uint32_t> order(h.experiments);
        std::iota(order.begin(), order.end(), 0u);
        std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
            return job.cycles[a] != job.cycles[b] ? job.cycles[a] < job.cycles[b] : a < b;
        });
        for (uint32_t experiment : order) run_fault(experiment);
    }

    // Golden states in register order.
    Bytes wanted_states() {
        Bytes all;
        for (uint32_t cycle : job.states) {
            const uint32_t begin = cycle / golden.stride * golden.stride;
            start(begin);
            for (uint32_t t = begin; t < cycle; ++t) {
                evaluate(t);
                source += in;
                store_fault();
                model.advance();
            }
            for (const Register& r : model.registers)
                all.insert(all.end(), r.state, r.state + r.bytes);
            roll_back();
        }
        return all;
    }

    void write(const char* path) {
        const Bytes wanted = wanted_states();
        std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "wb"), std::fclose);
        if (!file) throw std::runtime_error("the result file cannot be written");
        const std::vector<uint64_t> sizes = {golden.cycles, visible_frame.size(), wanted.size(),
                                             evaluations, golden.stride};
        write_array(file.get(), sizes);
        write_array(file.get(), golden.frame_accepted);
        write_array(file.get(), golden.frame_done);
        write_array(file.get(), golden.words_out);
        write_array(file.get(), golden.accepted);
        write_array(file.get(), golden.delivered);
        write_array(file.get(), ends);
        write_array(file.get(), events);
        write_array(file.get(), end_cycles);
        write_array(file.get(), visible_experiment);
        write_array(file.get(), visible_frame);
        write_array(file.get(), visible_flags);
        write_array(file.get(), visible_words);
        write_array(file.get(), wanted);
    }
};

int main(int argc, char** argv) {
    try {
        if (argc != 3) throw std::runtime_error("usage: model JOB RESULT");
        const Job job(argv[1]);
        Campaign campaign(job);
        campaign.run_golden();
        campaign.run_faults();
        campaign.write(argv[2]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
