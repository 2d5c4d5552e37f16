// The environment of a design with an input and an output stream: frames of beats, back to back or
// with stalls that are a function of the cycle. Further tables: one macro a port (TERCET_IN_VALID,
// ...), of the variable `model`.

class StreamEnvironment {
    Model& model;
    uint64_t frames, beats_in, bytes_in, beats_out, bytes_out, reset_cycles;
    uint64_t slack_cycles;
    Bytes words_in;      // [frames][beats_in][bytes_in]
    Bytes offer, ready;  // stall patterns, repeated; empty: always

    // The fault-free run.
    Bytes words_out;                      // [frames][beats_out][bytes_out]
    Numbers accepted, delivered;          // beats before cycle t, in and out
    Numbers frame_accepted, frame_done;   // cycle of first beat in, of last beat out

    // An experiment.
    enum Flag : uint8_t { WRONG = 1, MALFORMED = 2, FLAGGED = 4, ERR = 8 };
    struct Sink {  // the output frame that is being received, compared with the golden one
        uint32_t frame = 0, beat = 0;
        uint8_t flags = 0;
        Bytes words;
    } sink;
    uint32_t source = 0;  // beats accepted
    bool valid = false, ended = false;
    uint32_t experiment = 0, end_frame = 0;
    Bytes events, visible_flags, visible_words;
    Numbers detected;  // cycle of the first beat with the error flag
    Numbers visible_experiment, visible_frame;

public:
    uint32_t max_cycles;

    StreamEnvironment(Model& m, Reader& setup)
        : model(m), frames(setup.number()), beats_in(setup.number()), bytes_in(setup.number()),
          beats_out(setup.number()), bytes_out(setup.number()), reset_cycles(setup.number()),
          slack_cycles(setup.number()) {
        max_cycles = uint32_t(setup.number());
        const uint64_t offers = setup.number(), readies = setup.number();
        words_in = setup.array<uint8_t>(frames * beats_in * bytes_in);
        offer = setup.array<uint8_t>(offers);
        ready = setup.array<uint8_t>(readies);
        sink.words.resize(beats_out * bytes_out);
    }

    void reset(Memories& memories) {
        TERCET_OUT_READY = 1;
        TERCET_RESET = 1;
        TERCET_IN_VALID = 0;
        for (uint64_t i = 0; i < reset_cycles; ++i) {
            model.top.eval();
            memories.write_before_golden();
            model.advance();
        }
        TERCET_RESET = 0;
    }

    static bool allowed(const Bytes& pattern, uint32_t cycle) {
        return pattern.empty() || pattern[cycle % pattern.size()];
    }

    void drive(uint32_t t) {
        const uint64_t beat = source % beats_in;
        valid = source < frames * beats_in && allowed(offer, t);
        TERCET_OUT_READY = allowed(ready, t);
        TERCET_IN_VALID = valid;
        TERCET_IN_FIRST = valid && beat == 0;
        TERCET_IN_LAST = valid && beat == beats_in - 1;
        if (valid)
            std::memcpy(&TERCET_IN_DATA, &words_in[source * bytes_in], bytes_in);
        else
            std::memset(&TERCET_IN_DATA, 0, bytes_in);
    }

    // ------------------------------------------------------------------------ the golden run

    bool golden_over(uint32_t t) {
        accepted.push_back(source);
        delivered.push_back(t ? delivered.back() + ended : 0);
        return frame_done.size() >= frames;
    }

    bool golden_cycle(uint32_t t) {
        if (TERCET_RETRIED || TERCET_CORRECTED) throw std::runtime_error("golden: a correction");
        const bool in = valid && TERCET_IN_READY;
        if (in && source % beats_in == 0) frame_accepted.push_back(t);
        source += in;
        ended = TERCET_OUT_VALID && TERCET_OUT_READY;
        if (!ended) return false;
        const uint32_t beat = delivered.back() % beats_out;
        const bool last = beat == beats_out - 1;
        if (TERCET_OUT_ERR) throw std::runtime_error("golden: the error flag is raised");
        if (bool(TERCET_OUT_FIRST) != (beat == 0) || bool(TERCET_OUT_LAST) != last)
            throw std::runtime_error("golden: a frame has a wrong number of beats");
        const uint8_t* data = (const uint8_t*)&TERCET_OUT_DATA;
        words_out.insert(words_out.end(), data, data + bytes_out);
        if (last) frame_done.push_back(t);
        return last;
    }

    void golden_end(uint32_t) {
        if (frame_accepted.size() != frames)
            throw std::runtime_error("golden: more frames came out than went in");
    }

    void write_golden(Writer& file) {
        file.array(frame_accepted);
        file.array(frame_done);
        file.array(words_out);
        file.array(accepted);
        file.array(delivered);
    }

    // -------------------------------------------------------------------------- an experiment

    void begin_job(uint64_t experiments) {
        events.assign(experiments, 0);
        detected.assign(experiments, NEVER);
        for (Bytes* bytes : {&visible_flags, &visible_words}) bytes->clear();
        for (Numbers* numbers : {&visible_experiment, &visible_frame}) numbers->clear();
    }

    void start(uint32_t x, uint32_t t, uint32_t limit) {
        experiment = x;
        end_frame = limit;
        ended = false;
        source = accepted[t];
        begin_frame(uint32_t(delivered[t] / beats_out));
        sink.beat = uint32_t(delivered[t] % beats_out);
    }

    bool observe(uint32_t t) {
        if (TERCET_RETRIED || TERCET_CORRECTED)
            events[experiment] |= uint8_t((TERCET_RETRIED ? 1 : 0) | (TERCET_CORRECTED ? 2 : 0));
        ended = TERCET_OUT_VALID && TERCET_OUT_READY && receive(t);
        source += valid && TERCET_IN_READY;
        return false;
    }

    bool same(uint32_t t) const {
        return source == accepted[t] && sink.frame == delivered[t] / beats_out &&
               sink.beat == delivered[t] % beats_out;
    }

    // After a frame the state may be the golden one after the same frame: an inference that took
    // longer leaves everything golden but late. Under stalls late is another input.
    uint32_t late() const {
        if (!ended || !offer.empty() || !ready.empty() || sink.frame > frames) return NEVER;
        return frame_done[sink.frame - 1] + 1;
    }
    uint32_t end_when_late(uint32_t t) const {
        return *std::lower_bound(frame_done.begin(), frame_done.end(), t - 1) + 1;
    }
    uint32_t watch_end() const { return frame_done[end_frame - 1] + 1; }

    End verdict(uint32_t t) const {
        if (sink.frame >= end_frame) return BOUND;
        return t > frame_done[sink.frame] + slack_cycles ? HANG : GOLDEN;
    }

    void jump(uint32_t t) {
        const uint32_t frame = uint32_t(delivered[t] / beats_out);
        if (frame > sink.frame) {
            emit();
            begin_frame(frame);
        }
        source = accepted[t];
        sink.beat = uint32_t(delivered[t] % beats_out);
    }

    // What is left of a frame is golden.
    void finish(End end) {
        if (end == GOLDEN || end == BOUND) emit();
    }

    void write(Writer& file) {
        file.number(visible_frame.size());
        file.array(events);
        file.array(detected);
        file.array(visible_experiment);
        file.array(visible_frame);
        file.array(visible_flags);
        file.array(visible_words);
    }

private:
    void emit() {
        if (!sink.flags) return;
        visible_experiment.push_back(experiment);
        visible_frame.push_back(sink.frame);
        visible_flags.push_back(sink.flags);
        visible_words.insert(visible_words.end(), sink.words.begin(), sink.words.end());
        sink.flags = 0;
    }

    void begin_frame(uint32_t frame) {
        sink.frame = frame;
        sink.beat = 0;
        sink.flags = 0;
        if (frame < frame_done.size())
            std::copy_n(&words_out[size_t(frame) * sink.words.size()], sink.words.size(),
                        sink.words.begin());
    }

    // Take one output beat; true when it ended the frame.
    bool receive(uint32_t t) {
        const bool over = sink.beat >= beats_out, last = TERCET_OUT_LAST;
        uint8_t seen = TERCET_OUT_ERR ? ERR : 0;
        if (seen && !(sink.flags & WRONG)) seen |= FLAGGED;
        if (seen) detected[experiment] = std::min(detected[experiment], t);
        if (over || bool(TERCET_OUT_FIRST) != (sink.beat == 0) || last != (sink.beat == beats_out - 1))
            seen |= WRONG | MALFORMED;
        if (!over) {
            uint8_t* mine = &sink.words[sink.beat * bytes_out];
            if (std::memcmp(mine, &TERCET_OUT_DATA, bytes_out)) seen |= WRONG;
            std::memcpy(mine, &TERCET_OUT_DATA, bytes_out);
        }
        sink.flags |= seen;
        ++sink.beat;
        if (!last) return false;
        emit();
        begin_frame(sink.frame + 1);
        return true;
    }
};

int main(int argc, char** argv) { return serve<StreamEnvironment>(argc, argv); }
