// The stimulus, one step of all lanes, and the fault-free run that both engines start from.

// The run as the caller knows it: per cycle all input bits, all output bits, and which of these
// must be golden for a lane to go on (`shake`) or else are recorded (`care`). `lead` cycles come
// before cycle 0 (the reset).
struct Trace {
    uint64_t lead, cycles, in_bytes = (IN_BITS + 7) / 8, out_bytes = (OUT_BITS + 7) / 8;
    Bytes in, out, shake, care;    // in: lead + cycles rows, the others: cycles rows
    Bytes retried, corrected;      // output bits that count an event while they are 1

    static Bytes take(FILE* file, size_t count) {
        Bytes bytes(count);
        if (count && std::fread(bytes.data(), 1, count, file) != count)
            throw std::runtime_error("the trace is cut short");
        return bytes;
    }

    explicit Trace(FILE* file) {
        uint64_t sizes[2];
        if (std::fread(sizes, 8, 2, file) != 2) throw std::runtime_error("the trace is cut short");
        lead = sizes[0];
        cycles = sizes[1];
        in = take(file, (lead + cycles) * in_bytes);
        out = take(file, cycles * out_bytes);
        shake = take(file, cycles * out_bytes);
        care = take(file, cycles * out_bytes);
        retried = take(file, out_bytes);
        corrected = take(file, out_bytes);
    }
};

// Call `f(i)` for each 1 of a row of bits.
template <class F> inline void each_bit(const uint8_t* row, uint64_t bytes, F f) {
    for (uint64_t i = 0; i < bytes; ++i)
        for (uint32_t left = row[i]; left; left &= left - 1) f(uint32_t(8 * i + __builtin_ctz(left)));
}

// A state as words of 64 equal bits.
inline void expand(const uint8_t* state, int64_t* masks) {
    for (uint32_t i = 0; i < STATE_BITS; i += 8) {
#if defined(__AVX512DQ__) && !defined(TERCET_PORTABLE)
        _mm512_storeu_si512(masks + i, _mm512_movm_epi64(__mmask8(state[i >> 3])));
#else
        for (uint32_t k = 0; k < 8; ++k) masks[i + k] = -int64_t(state[i >> 3] >> k & 1);
#endif
    }
}

// 512 lanes of the design.
struct Design {
    Contents contents;
    Vectors first = vectors(STATE_BITS), second = vectors(STATE_BITS), slots = vectors(SLOTS);
    V *q = first.get(), *d = second.get(), *w = slots.get();
    LaneMemories memories{contents, w};
    std::vector<int64_t> masks = std::vector<int64_t>(STATE_BITS + 8);  // the fault-free next state
    V differs{};                                     // lanes whose next state is not `masks`
    uint64_t evaluations = 0;

    explicit Design(const Contents& start) : contents(start) {}

    void load(const uint8_t* state) {
        for (uint32_t i = 0; i < STATE_BITS; ++i) q[i] = spread(state[i >> 3] >> (i & 7) & 1);
    }

    // The fault-free lane's state.
    void save(uint8_t* state) const {
        std::memset(state, 0, (STATE_BITS + 7) / 8);
        for (uint32_t i = 0; i < STATE_BITS; ++i) state[i >> 3] |= uint8_t(golden(q[i])) << (i & 7);
    }

    void drive(const uint8_t* row) {
        for (uint32_t i = 0; i < IN_BITS; ++i) w[i] = spread(row[i >> 3] >> (i & 7) & 1);
    }

    // Outputs, write ports and next state of this cycle.
    void evaluate(const V& busy) {
        ++evaluations;
        differs = zeros();
#define P(n) part_##n(q, d, w, masks.data(), &differs);
#define R(stage) memories.read(stage, busy);
        TERCET_STEPS(P, R)
#undef P
#undef R
    }

    // Lanes in which an output of `mask` is not the fault-free one of cycle t.
    V outputs_differ(const Trace& trace, const Bytes& mask, uint32_t t) const {
        const uint8_t* out = &trace.out[t * trace.out_bytes];
        V lanes = zeros();
        each_bit(&mask[t * trace.out_bytes], trace.out_bytes, [&](uint32_t i) {
            lanes |= w[FIRST_OUT + i] ^ spread(out[i >> 3] >> (i & 7) & 1);
        });
        return lanes;
    }

    // Lanes in which an output of `mask` is 1.
    V outputs_set(const Bytes& mask) const {
        V lanes = zeros();
        each_bit(mask.data(), mask.size(), [&](uint32_t i) { lanes |= w[FIRST_OUT + i]; });
        return lanes;
    }

    void advance(const V& busy) {
        memories.write(busy);
        std::swap(q, d);
    }
};

// State and memories of the fault-free run at every cycle from `from` on.
struct GoldenRun {
    static constexpr uint64_t STATE_BYTES = (STATE_BITS + 7) / 8;
    const Trace& trace;
    uint32_t from, to;
    Bytes states;   // cycles from..to
    ChangeLog log;
    Contents contents;  // of cycle `at`
    uint32_t at = 0;

    GoldenRun(const Trace& t, const Contents& start, uint32_t from_, uint32_t to_)
        : trace(t), from(from_), to(to_), contents(start) {
        Design design(start);
        design.load(INIT);
        states.resize((to - from + 1) * STATE_BYTES);
        for (uint64_t c = 0; c < trace.lead; ++c) step(design, &trace.in[c * trace.in_bytes]);
        contents = design.contents;
        design.memories.log = &log;
        for (uint32_t t0 = 0; t0 <= to; ++t0) {
            log.first.push_back(log.changes.size());
            if (t0 >= from) design.save(&states[(t0 - from) * STATE_BYTES]);
            if (t0 == to) break;
            step(design, &trace.in[(trace.lead + t0) * trace.in_bytes]);
            check(design, t0);
        }
    }

    const uint8_t* state(uint32_t t) const { return &states[(t - from) * STATE_BYTES]; }

private:
    static void step(Design& design, const uint8_t* row) {
        design.drive(row);
        design.evaluate(zeros());
        design.advance(zeros());
    }

    void check(const Design& design, uint32_t t) const {
        const uint8_t* out = &trace.out[t * trace.out_bytes];
        const auto same = [&](uint32_t i) {
            if (golden(design.w[FIRST_OUT + i]) != bool(out[i >> 3] >> (i & 7) & 1))
                throw std::runtime_error("cycle " + std::to_string(t) + ": output bit " + std::to_string(i) +
                                         " of the fault-free run is not the native engine's");
        };
        each_bit(&trace.shake[t * trace.out_bytes], trace.out_bytes, same);
        each_bit(&trace.care[t * trace.out_bytes], trace.out_bytes, same);
    }
};
