// The compiled network, its state and memories, 512 lanes wide. gates_code.py puts tables and the
// declarations of the functions before this text.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using Numbers = std::vector<uint32_t>;
using Bytes = std::vector<uint8_t>;
using Words = std::vector<uint64_t>;

// ---------------------------------------------------------------------------------------- lanes

inline V zeros() { return V{}; }
inline V ones() { return ~V{}; }
inline V spread(bool bit) { return V{} - int64_t(bit); }
typedef uint64_t __attribute__((may_alias)) Word;  // vectors are also read and written by words
inline Word* words(V& v) { return reinterpret_cast<Word*>(&v); }
inline const Word* words(const V& v) { return reinterpret_cast<const Word*>(&v); }
inline bool bit(const V& v, uint32_t lane) { return words(v)[lane >> 6] >> (lane & 63) & 1; }
inline void invert(V& v, uint32_t lane) { words(v)[lane >> 6] ^= 1ull << (lane & 63); }
inline void set(V& v, uint32_t lane) { words(v)[lane >> 6] |= 1ull << (lane & 63); }
inline void clear(V& v, uint32_t lane) { words(v)[lane >> 6] &= ~(1ull << (lane & 63)); }
inline bool golden(const V& v) { return words(v)[0] & 1; }

inline bool any(const V& v) {
#if defined(__AVX512F__) && !defined(TERCET_PORTABLE)
    return _mm512_test_epi64_mask(v, v);
#else
    uint64_t all = 0;
    for (int i = 0; i < WORDS; ++i) all |= words(v)[i];
    return all;
#endif
}

inline uint32_t count(const V& v) {
    uint32_t lanes = 0;
    for (int i = 0; i < WORDS; ++i) lanes += uint32_t(__builtin_popcountll(words(v)[i]));
    return lanes;
}

// The first and the last lane of a set that has some.
inline uint32_t first(const V& v) {
    int i = 0;
    while (!words(v)[i]) ++i;
    return 64 * i + uint32_t(__builtin_ctzll(words(v)[i]));
}
inline uint32_t last(const V& v) {
    int i = WORDS - 1;
    while (!words(v)[i]) --i;
    return 64 * i + 63 - uint32_t(__builtin_clzll(words(v)[i]));
}

// Call `f(lane)` for each lane of the set.
template <class F> inline void each(const V& v, F f) {
    for (int i = 0; i < WORDS; ++i)
        for (uint64_t left = words(v)[i]; left; left &= left - 1)
            f(uint32_t(64 * i + __builtin_ctzll(left)));
}

struct FreeDeleter { void operator()(void* p) const { std::free(p); } };
using Vectors = std::unique_ptr<V[], FreeDeleter>;

inline Vectors vectors(size_t count) {
    const size_t bytes = sizeof(V) * std::max<size_t>(count, 1);
    void* p = std::aligned_alloc(64, bytes);
    if (!p) throw std::runtime_error("out of memory");
    std::memset(p, 0, bytes);
    return Vectors(static_cast<V*>(p));
}

// --------------------------------------------------------------------------------------- tables

struct MemoryRow { uint32_t width, depth, offset; };
struct ReadRow { uint32_t stage, group, memory, address, address_bits, data; };
struct WriteRow { uint32_t memory, address, address_bits, data, first_enable, enables; };
struct EnableRow { uint32_t slot, mask; };

#define X(...) {__VA_ARGS__},
static const std::vector<MemoryRow> MEMORIES = {TERCET_MEMORIES(X)};
static const std::vector<ReadRow> READS = {TERCET_READS(X)};
static const std::vector<WriteRow> WRITES = {TERCET_WRITES(X)};
static const std::vector<EnableRow> ENABLES = {TERCET_ENABLES(X)};
#undef X
static const std::vector<uint32_t> TARGETS = {TERCET_TARGETS};

// ------------------------------------------------------------------------------- golden contents

// A word that the fault-free run wrote: old value at `at` of the log's words, new one after it.
struct Change { uint32_t memory, address; size_t at; };

struct ChangeLog {
    std::vector<Change> changes;
    Words values;
    std::vector<size_t> first{};  // cycle -> index into changes
    // By memory and word, the cycles that read it or write a part of it; that write all of it.
    std::vector<std::vector<Numbers>> uses{}, kills{};

    static constexpr uint32_t NEVER = 0xffffffffu;

    ChangeLog() {
        for (const MemoryRow& row : MEMORIES) {
            uses.emplace_back(row.depth);
            kills.emplace_back(row.depth);
        }
    }
    void access(std::vector<std::vector<Numbers>>& to, uint32_t memory, uint32_t address) {
        Numbers& cycles = to[memory][address];
        const uint32_t now = uint32_t(first.size() - 1);
        if (cycles.empty() || cycles.back() != now) cycles.push_back(now);
    }
    // The first such cycle from t on.
    static uint32_t next(const Numbers& cycles, uint32_t t) {
        const auto found = std::lower_bound(cycles.begin(), cycles.end(), t);
        return found == cycles.end() ? NEVER : *found;
    }
};

// The fault-free words of all memories at the start of a cycle.
struct Contents {
    std::vector<Words> words;
    std::vector<uint32_t> size;  // 64-bit words a memory word

    explicit Contents(FILE* file) {
        for (const MemoryRow& row : MEMORIES) {
            size.push_back((row.width + 63) / 64);
            words.emplace_back(size_t(row.depth) * size.back());
            if (std::fread(words.back().data(), 8, words.back().size(), file) != words.back().size())
                throw std::runtime_error("the contents of the memories are cut short");
        }
    }

    uint64_t* at(uint32_t memory, uint32_t address) {
        return &words[memory][size_t(address) * size[memory]];
    }

    // From the start of cycle `from` to that of `to`.
    void seek(const ChangeLog& log, uint32_t from, uint32_t to) {
        for (size_t i = log.first[from]; from < to && i < log.first[to]; ++i) put(log, i, 1);
        for (size_t i = log.first[from]; from > to && i-- > log.first[to];) put(log, i, 0);
    }

private:
    void put(const ChangeLog& log, size_t i, uint32_t which) {
        const Change& c = log.changes[i];
        std::copy_n(&log.values[c.at + which * size[c.memory]], size[c.memory], at(c.memory, c.address));
    }
};
