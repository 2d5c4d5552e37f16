// The files, the compiled cut model and the golden record of the native engine.
//
// native_model.py puts tables before this text: TERCET_REGISTERS(X) as X(number, width),
// TERCET_MEMORIES(X) as X(number, width, depth, first address), TERCET_WRITES(X) as X(number, memory), TERCET_INIT the
// bytes of the initial state in register order, TERCET_ARRAY(n) the variable of memory n, and one
// macro a port (TERCET_IN_VALID, ...).

#pragma GCC optimize("O2")

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

using Bytes = std::vector<uint8_t>;
constexpr uint32_t NEVER = 0xffffffffu;

// ---------------------------------------------------------------------------------------- files

struct Header {
    uint64_t frames, beats_in, bytes_in, beats_out, bytes_out, reset_cycles, max_cycles;
    uint64_t bound_frames, slack_cycles, state_budget_bytes, experiments, flips, states;
    uint64_t offer_cycles, ready_cycles;
};

template <class T> std::vector<T> read_array(FILE* file, size_t count) {
    std::vector<T> values(count);
    if (count && std::fread(values.data(), sizeof(T), count, file) != count)
        throw std::runtime_error("the job file is cut short");
    return values;
}

template <class T> void write_array(FILE* file, const std::vector<T>& values) {
    if (!values.empty() && std::fwrite(values.data(), sizeof(T), values.size(), file) != values.size())
        throw std::runtime_error("the result file cannot be written");
}

struct Job {
    Header header;
    Bytes words_in;                                     // [frames][beats_in][bytes_in]
    std::vector<uint32_t> cycles, first_flip, flip_bits;  // experiment -> cycle, flips
    std::vector<uint32_t> states;                       // cycles whose golden state is wanted
    Bytes offer, ready;                                 // stall patterns, repeated; empty: always

    explicit Job(const char* path) {
        std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "rb"), std::fclose);
        if (!file) throw std::runtime_error("the job file cannot be read");
        header = read_array<Header>(file.get(), 1)[0];
        words_in = read_array<uint8_t>(file.get(), header.frames * header.beats_in * header.bytes_in);
        cycles = read_array<uint32_t>(file.get(), header.experiments);
        first_flip = read_array<uint32_t>(file.get(), header.experiments + 1);
        flip_bits = read_array<uint32_t>(file.get(), header.flips);
        states = read_array<uint32_t>(file.get(), header.states);
        offer = read_array<uint8_t>(file.get(), header.offer_cycles);
        ready = read_array<uint8_t>(file.get(), header.ready_cycles);
    }
};

// ---------------------------------------------------------------------------------------- model

struct Register { uint8_t *state, *next; uint32_t bytes, width, offset; };
struct Memory { uint8_t* words; uint32_t bytes, width, depth, offset; };
struct WritePort { const uint8_t *address, *data, *enable; uint32_t address_bytes, memory; };
struct Run { uint8_t *state, *next; uint32_t offset, bytes; };

struct Model {
    VerilatedContext context;
    Vtop top{&context};
    Vtop___024root& root = *top.rootp;
    std::vector<Register> registers;
    std::vector<Memory> memories;
    std::vector<WritePort> writes;
    std::vector<Run> runs;  // neighbouring registers, copied together
    std::vector<std::pair<uint32_t, uint32_t>> bits;  // bit number -> register, position
    uint32_t state_bytes = 0;

    Model() {
        context.randReset(0);
#define X(n, w)                                                                     \
    registers.push_back({(uint8_t*)&root.tercet_ff_##n, (uint8_t*)&root.tercet_nx_##n, \
                         (uint32_t)sizeof(root.tercet_ff_##n), w, 0});
        TERCET_REGISTERS(X)
#undef X
#define X(n, w, d, o)                                                                        \
    memories.push_back({(uint8_t*)&TERCET_ARRAY(n)[0], (uint32_t)sizeof(TERCET_ARRAY(n)[0]), w, d, \
                        o});
        TERCET_MEMORIES(X)
#undef X
#define X(n, m)                                                                        \
    writes.push_back({(uint8_t*)&root.tercet_wa_##n, (uint8_t*)&root.tercet_wd_##n,       \
                      (uint8_t*)&root.tercet_we_##n, (uint32_t)sizeof(root.tercet_wa_##n), m});
        TERCET_WRITES(X)
#undef X
        lay_out();
        const uint8_t init[] = {TERCET_INIT};
        const uint8_t* from = init;
        for (auto& r : registers) { std::memcpy(r.state, from, r.bytes); from += r.bytes; }
        top.eval();  // initial blocks fill the memories
    }

    void lay_out() {
        std::vector<uint32_t> order(registers.size());
        std::iota(order.begin(), order.end(), 0u);
        std::sort(order.begin(), order.end(),
                  [&](uint32_t a, uint32_t b) { return registers[a].state < registers[b].state; });
        for (uint32_t n : order) {
            Register& r = registers[n];
            r.offset = state_bytes;
            if (!runs.empty() && runs.back().state + runs.back().bytes == r.state &&
                runs.back().next + runs.back().bytes == r.next)
                runs.back().bytes += r.bytes;
            else
                runs.push_back({r.state, r.next, state_bytes, r.bytes});
            state_bytes += r.bytes;
        }
        for (uint32_t n = 0; n < registers.size(); ++n)
            for (uint32_t i = 0; i < registers[n].width; ++i) bits.push_back({n, i});
    }

    void save(uint8_t* to) const {
        for (const Run& r : runs) std::memcpy(to + r.offset, r.state, r.bytes);
    }
    void load(const uint8_t* from) {
        for (const Run& r : runs) std::memcpy(r.state, from + r.offset, r.bytes);
    }
    bool equals(const uint8_t* other) const {
        for (const Run& r : runs)
            if (std::memcmp(r.state, other + r.offset, r.bytes)) return false;
        return true;
    }
    void advance() {
        for (const Run& r : runs) std::memcpy(r.state, r.next, r.bytes);
    }
};

// Words of memories are mostly one machine word: no call for these.

inline uint64_t small_word(const uint8_t* a, uint32_t size) {
    uint64_t value = 0;
    switch (size) {
        case 1: return *a;
        case 2: std::memcpy(&value, a, 2); return value;
        case 4: std::memcpy(&value, a, 4); return value;
        default: std::memcpy(&value, a, 8); return value;
    }
}

inline bool differ(const uint8_t* a, const uint8_t* b, uint32_t size) {
    return size > 8 ? std::memcmp(a, b, size) != 0 : small_word(a, size) != small_word(b, size);
}

inline bool is_zero(const uint8_t* a, uint32_t size) {
    return size > 8 ? std::all_of(a, a + size, [](uint8_t e) { return !e; }) : !small_word(a, size);
}

inline void copy_word(uint8_t* to, const uint8_t* from, uint32_t size) {
    if (size > 8) std::memcpy(to, from, size);
    else for (uint32_t i = 0; i < size; ++i) to[i] = from[i];
}

// --------------------------------------------------------------------------------- golden record

struct Change { uint32_t memory, address; size_t bytes; };  // old word at `bytes`, new one after it

struct Golden {
    uint32_t cycles = 0, stride = 1;
    Bytes states;                                   // at every cycle that `stride` divides
    Bytes frame_states;                             // after each frame's last beat
    Bytes words_out;                                // [frames][beats_out][bytes_out]
    std::vector<uint32_t> accepted, delivered;      // beats before cycle t, in and out
    std::vector<uint32_t> frame_accepted, frame_done;  // cycle of first beat in, of last beat out
    std::vector<Change> changes;
    std::vector<uint32_t> first_change;             // cycle -> index into changes
    Bytes change_bytes;
};

// The golden content of the memories at the start of `cycle`, kept in `words`.
struct Image {
    std::vector<uint8_t*> words;
    uint32_t cycle = 0;
};
