// The files and the compiled cut model of the native engine.
//
// native_model.py puts tables before this text: TERCET_REGISTERS(X) as X(number, width),
// TERCET_MEMORIES(X) as X(number, width, depth, first address), TERCET_WRITES(X) and TERCET_READS(X)
// as X(number, memory), TERCET_INIT the bytes of the initial state in register order,
// TERCET_ARRAY(n) the variable of memory n, and what the environment needs.

#pragma GCC optimize("O2")

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

void Vtop___024root___eval(Vtop___024root* root);

using Bytes = std::vector<uint8_t>;
using Numbers = std::vector<uint32_t>;
constexpr uint32_t NEVER = 0xffffffffu;

// ---------------------------------------------------------------------------------------- files

class Reader {
    std::unique_ptr<FILE, int (*)(FILE*)> file;

public:
    explicit Reader(const std::string& path) : file(std::fopen(path.c_str(), "rb"), std::fclose) {
        if (!file) throw std::runtime_error("a job file cannot be read");
    }
    template <class T> std::vector<T> array(size_t count) {
        std::vector<T> values(count);
        if (count && std::fread(values.data(), sizeof(T), count, file.get()) != count)
            throw std::runtime_error("a job file is cut short");
        return values;
    }
    uint64_t number() { return array<uint64_t>(1)[0]; }
};

class Writer {
    std::unique_ptr<FILE, int (*)(FILE*)> file;

public:
    explicit Writer(const std::string& path) : file(std::fopen(path.c_str(), "wb"), std::fclose) {
        if (!file) throw std::runtime_error("a result file cannot be written");
    }
    template <class T> void array(const std::vector<T>& values) {
        if (!values.empty() &&
            std::fwrite(values.data(), sizeof(T), values.size(), file.get()) != values.size())
            throw std::runtime_error("a result file cannot be written");
    }
    void number(uint64_t value) { array(std::vector<uint64_t>{value}); }
    void close() {
        if (std::fclose(file.release())) throw std::runtime_error("a result file cannot be written");
    }
};

// ---------------------------------------------------------------------------------------- model

struct Register { uint8_t *state, *next; uint32_t bytes, width, offset; };
struct Memory { uint8_t* words; uint32_t bytes, width, depth, offset; Bytes full; };
struct WritePort { const uint8_t *address, *data, *enable; uint32_t address_bytes, memory; };
struct ReadPort { const uint8_t* address; uint32_t address_bytes, memory; };
struct Run { uint8_t *state, *next; uint32_t offset, bytes; };

struct Model {
    VerilatedContext context;
    Vtop top{&context};
    Vtop___024root& root = *top.rootp;
    std::vector<Register> registers;
    std::vector<Memory> memories;
    std::vector<WritePort> writes;
    std::vector<ReadPort> reads;
    std::vector<Run> runs;  // neighbouring registers, copied together
    std::vector<std::pair<uint32_t, uint32_t>> bits;  // bit number -> register, position
    uint32_t state_bytes = 0;
    uint32_t hint_run = 0, hint_byte = 0;  // where states differed last

    Model() {
        context.randReset(0);
#define X(n, w)                                                                     \
    registers.push_back({(uint8_t*)&root.tercet_ff_##n, (uint8_t*)&root.tercet_nx_##n, \
                         (uint32_t)sizeof(root.tercet_ff_##n), w, 0});
        TERCET_REGISTERS(X)
#undef X
#define X(n, w, d, o)                                                                        \
    memories.push_back({(uint8_t*)&TERCET_ARRAY(n)[0], (uint32_t)sizeof(TERCET_ARRAY(n)[0]), w, d, \
                        o, {}});
        TERCET_MEMORIES(X)
#undef X
#define X(n, m)                                                                        \
    writes.push_back({(uint8_t*)&root.tercet_wa_##n, (uint8_t*)&root.tercet_wd_##n,       \
                      (uint8_t*)&root.tercet_we_##n, (uint32_t)sizeof(root.tercet_wa_##n), m});
        TERCET_WRITES(X)
#undef X
#define X(n, m) \
    reads.push_back({(uint8_t*)&root.tercet_ra_##n, (uint32_t)sizeof(root.tercet_ra_##n), m});
        TERCET_READS(X)
#undef X
        lay_out();
        const uint8_t init[] = {TERCET_INIT};
        const uint8_t* from = init;
        for (auto& r : registers) { std::memcpy(r.state, from, r.bytes); from += r.bytes; }
        for (Memory& m : memories) {
            m.full.resize(m.bytes);
            for (uint32_t i = 0; i < m.width; ++i) m.full[i >> 3] |= uint8_t(1u << (i & 7));
        }
        top.eval();  // initial blocks fill the memories
    }

    void lay_out() {
        Numbers order(registers.size());
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
    void advance() {
        for (const Run& r : runs) std::memcpy(r.state, r.next, r.bytes);
    }
    // The byte in which two states differed last is the first to look at.
    bool equals(const uint8_t* other) {
        if (runs.empty()) return true;
        const Run& last = runs[hint_run];
        if (last.state[hint_byte] != other[last.offset + hint_byte]) return false;
        for (uint32_t n = 0; n < runs.size(); ++n) {
            const uint8_t *a = runs[n].state, *b = other + runs[n].offset;
            if (!std::memcmp(a, b, runs[n].bytes)) continue;
            hint_run = n;
            hint_byte = uint32_t(std::mismatch(a, a + runs[n].bytes, b).first - a);
            return false;
        }
        return true;
    }
};
