// The streams of lanes whose handshake is not the fault-free one: what native_stream.cpp does, for
// one lane of many.

// Absent (frames 0) where a design has other ports: then such a lane is given up.
struct Streams {
    static constexpr uint64_t NUMBERS = 19;
    uint64_t frames = 0, beats_in, bytes_in, beats_out, bytes_out, slack_cycles, stalls;
    uint64_t in_valid, in_first, in_last, in_data, in_bits;                // input bits
    uint64_t in_ready, out_valid, out_first, out_last, out_err, out_data;  // output bits
    uint64_t out_bits;
    Bytes words_in, words_out;     // [frames][beats][bytes]
    Bytes offer, ready;            // per cycle
    Numbers accepted, delivered;   // beats before each cycle
    Numbers frame_done;

    Streams(FILE* file, uint64_t cycles) {
        uint64_t n[NUMBERS];
        if (std::fread(n, 8, NUMBERS, file) != NUMBERS) throw std::runtime_error("the trace is cut short");
        uint64_t* to[NUMBERS] = {&frames,   &beats_in, &bytes_in, &beats_out, &bytes_out,
                                 &slack_cycles, &stalls, &in_valid, &in_first, &in_last,
                                 &in_data,  &in_bits,  &in_ready, &out_valid, &out_first,
                                 &out_last, &out_err,  &out_data, &out_bits};
        for (uint64_t i = 0; i < NUMBERS; ++i) *to[i] = n[i];
        if (!frames) return;
        words_in = Trace::take(file, frames * beats_in * bytes_in);
        words_out = Trace::take(file, frames * beats_out * bytes_out);
        offer = Trace::take(file, cycles);
        ready = Trace::take(file, cycles);
        for (auto [column, count] : {std::pair{&accepted, cycles + 1}, {&delivered, cycles + 1},
                                     {&frame_done, frames}}) {
            column->resize(count);
            if (std::fread(column->data(), 4, count, file) != count)
                throw std::runtime_error("the trace is cut short");
        }
    }

    bool offered(uint64_t source, uint32_t t) const { return source < frames * beats_in && offer[t]; }
    // Whether a lane delivers a beat with the error flag in cycle t.
    bool flagged(const V* out, uint32_t lane, uint32_t t) const {
        return frames && out_err < OUT_BITS && ready[t] && bit(out[out_valid], lane) && bit(out[out_err], lane);
    }
    const uint8_t* golden_frame(uint32_t frame) const {
        return &words_out[size_t(frame) * beats_out * bytes_out];
    }
};

// Frames that differ: experiment, frame, flags, words.
struct FrameRows {
    Numbers experiment, frame;
    Bytes flags, words;
};

// The environment of one lane.
struct Stray {
    enum Flag : uint8_t { WRONG = 1, MALFORMED = 2, FLAGGED = 4, ERR = 8 };
    uint32_t experiment = 0, end_frame = 0, source = 0, frame = 0, beat = 0;
    uint8_t flags = 0;
    bool ended = false;  // a frame, in the last cycle
    Bytes words;

    // From the fault-free position at the start of cycle t.
    void begin(const Streams& s, uint32_t x, uint32_t t, uint32_t limit) {
        experiment = x;
        end_frame = uint32_t(std::lower_bound(s.frame_done.begin(), s.frame_done.end(), limit - 1) -
                             s.frame_done.begin()) + 1;
        source = s.accepted[t];
        begin_frame(s, uint32_t(s.delivered[t] / s.beats_out));
        beat = uint32_t(s.delivered[t] % s.beats_out);
    }

    void begin_frame(const Streams& s, uint32_t number) {
        frame = number;
        beat = 0;
        flags = 0;
        words.resize(s.beats_out * s.bytes_out);
        if (frame < s.frames) std::copy_n(s.golden_frame(frame), words.size(), words.begin());
    }

    // Where the lane's inputs differ from those of the fault-free run.
    void drive(const Streams& s, V* w, uint32_t lane, uint32_t t) const {
        const uint32_t other = s.accepted[t];
        if (source == other) return;
        const bool mine = s.offered(source, t), golden_one = s.offered(other, t);
        const uint64_t at = source % s.beats_in, golden_at = other % s.beats_in;
        const auto differs = [&](uint64_t place, bool a, bool b) {
            if (a != b) invert(w[place], lane);
        };
        differs(s.in_valid, mine, golden_one);
        differs(s.in_first, mine && at == 0, golden_one && golden_at == 0);
        differs(s.in_last, mine && at == s.beats_in - 1, golden_one && golden_at == s.beats_in - 1);
        for (uint64_t i = 0; i < s.bytes_in; ++i) {
            uint32_t left = (mine ? s.words_in[source * s.bytes_in + i] : 0) ^
                            (golden_one ? s.words_in[other * s.bytes_in + i] : 0);
            for (; left; left &= left - 1) invert(w[s.in_data + 8 * i + __builtin_ctz(left)], lane);
        }
    }

    // The lane's outputs of cycle t.
    void observe(const Streams& s, const V* out, uint32_t lane, uint32_t t, FrameRows& rows) {
        const bool in = s.offered(source, t) && bit(out[s.in_ready], lane);
        source += in;
        ended = false;
        if (!s.ready[t] || !bit(out[s.out_valid], lane)) return;
        Bytes data(s.bytes_out);
        for (uint64_t i = 0; i < s.out_bits; ++i)
            data[i >> 3] |= uint8_t(bit(out[s.out_data + i], lane)) << (i & 7);
        const bool err = s.out_err < OUT_BITS && bit(out[s.out_err], lane);
        const bool first = bit(out[s.out_first], lane), last = bit(out[s.out_last], lane);
        receive(s, data.data(), err, first, last);
        if (!last) return;
        ended = true;
        emit(rows);
        begin_frame(s, frame + 1);
    }

    void receive(const Streams& s, const uint8_t* data, bool err, bool first, bool last) {
        const bool over = beat >= s.beats_out;
        uint8_t seen = err ? ERR : 0;
        if (seen && !(flags & WRONG)) seen |= FLAGGED;
        if (over || first != (beat == 0) || last != (beat == s.beats_out - 1)) seen |= WRONG | MALFORMED;
        if (!over) {
            uint8_t* mine = &words[beat * s.bytes_out];
            if (!std::equal(mine, mine + s.bytes_out, data)) seen |= WRONG;
            std::copy_n(data, s.bytes_out, mine);
        }
        flags |= seen;
        ++beat;
    }

    void emit(FrameRows& rows) {
        if (!flags) return;
        rows.experiment.push_back(experiment);
        rows.frame.push_back(frame);
        rows.flags.push_back(flags);
        rows.words.insert(rows.words.end(), words.begin(), words.end());
        flags = 0;
    }

    bool same(const Streams& s, uint32_t t) const {
        return source == s.accepted[t] && frame == s.delivered[t] / s.beats_out &&
               beat == s.delivered[t] % s.beats_out;
    }

    // The fault-free cycle that the lane may have reached late; 0 none.
    uint32_t late(const Streams& s) const {
        if (!ended || s.stalls || frame > s.frames) return 0;
        const uint32_t reached = s.frame_done[frame - 1] + 1;
        return source == s.accepted[reached] ? reached : 0;
    }
};
