// What one cycle makes of a flip of each flip-flop bit: nothing, one bit of the next state, or more.

enum Successor : int32_t { GONE = -1, SPREAD = -2 };  // else the one bit that differs

class Collapse {
    const Trace& trace;
    const GoldenRun& run;
    Design design;
    uint32_t contents_at = 0;
    std::vector<int64_t> masks = std::vector<int64_t>(STATE_BITS + 8);

public:
    explicit Collapse(const GoldenRun& r) : trace(r.trace), run(r), design(r.contents) {}

    // `successors` [STATE_BITS] of the flips at the start of cycle t. SPREAD also where an output
    // that matters, a count of events or a write to a memory differs.
    void operator()(uint32_t t, int32_t* successors) {
        design.contents.seek(run.log, contents_at, t);
        contents_at = t;
        design.load(run.state(t));
        design.drive(&trace.in[(trace.lead + t) * trace.in_bytes]);
        expand(run.state(t + 1), masks.data());
        for (uint32_t from = 0; from < STATE_BITS; from += LANES - 1)
            some(t, from, std::min<uint32_t>(STATE_BITS - from, LANES - 1), successors + from);
    }

private:
    // Lane l + 1 has bit from + l flipped.
    void some(uint32_t t, uint32_t from, uint32_t count, int32_t* successors) {
        V busy = zeros();
        for (uint32_t l = 0; l < count; ++l) {
            set(busy, l + 1);
            invert(design.q[from + l], l + 1);
        }
        design.evaluate(busy);
        V more = design.outputs_differ(trace, trace.shake, t) | design.outputs_differ(trace, trace.care, t) |
                 design.outputs_set(trace.retried) | design.outputs_set(trace.corrected) |
                 design.memories.writes_otherwise(busy);
        V one = zeros();
        std::fill_n(successors, count, GONE);
        for (uint32_t i = 0; i < STATE_BITS; ++i) {
            const V differs = (design.d[i] ^ (V{} + masks[i])) & busy;
            if (!any(differs)) continue;
            each(differs & ~one, [&](uint32_t lane) { successors[lane - 1] = int32_t(i); });
            more |= one & differs;
            one |= differs;
        }
        each(more & busy, [&](uint32_t lane) { successors[lane - 1] = SPREAD; });
        for (uint32_t l = 0; l < count; ++l) invert(design.q[from + l], l + 1);
    }
};
