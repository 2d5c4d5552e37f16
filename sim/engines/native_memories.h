// The memories of the native engine: their golden history, which words differ from it now, and when
// the fault-free run reads and overwrites each word.

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

// Writes, each with the old and the new word; the words lie one after the other in `bytes`.
struct Log {
    struct Entry { uint32_t memory, address; size_t bytes; };
    std::vector<Entry> entries;
    Bytes bytes;

    void note(uint32_t memory, uint32_t address, const uint8_t* old, const uint8_t* value,
              uint32_t size) {
        entries.push_back({memory, address, bytes.size()});
        bytes.insert(bytes.end(), old, old + size);
        bytes.insert(bytes.end(), value, value + size);
    }
};

// When the fault-free run reads each word and when it overwrites it whole. A write of some bits
// counts as a read: it leaves the others.
class Accesses {
    struct Span { uint32_t word, start, end; };
    std::vector<Span> spans, open;               // cycles start..end in which a port reads the word
    std::vector<std::pair<uint32_t, uint32_t>> kills;  // word, cycle
    size_t limit = 0;

public:
    bool known = true;  // false: too many to keep

    void begin(size_t ports, size_t budget_bytes) {
        open.assign(ports, {NEVER, 0, 0});
        limit = budget_bytes / sizeof(Span);
    }
    void read(size_t port, uint32_t word, uint32_t cycle) {
        Span& span = open[port];
        if (span.word == word && span.end + 1 == cycle) { span.end = cycle; return; }
        touch(span);
        span = {word, cycle, cycle};
    }
    void touch(const Span& span) {
        if (span.word == NEVER || !known) return;
        spans.push_back(span);
        if (spans.size() + kills.size() > limit) {
            known = false;
            spans = {};
            kills = {};
        }
    }
    void partial_write(uint32_t word, uint32_t cycle) { touch({word, cycle, cycle}); }
    void whole_write(uint32_t word, uint32_t cycle) {
        if (known) kills.push_back({word, cycle});
    }
    void finish() {
        for (const Span& span : open) touch(span);
        std::sort(kills.begin(), kills.end());
        std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
            return a.word != b.word ? a.word < b.word : a.start < b.start;
        });
        size_t kept = 0;
        for (const Span& span : spans) {
            if (kept && spans[kept - 1].word == span.word && spans[kept - 1].end + 1 >= span.start)
                spans[kept - 1].end = std::max(spans[kept - 1].end, span.end);
            else
                spans[kept++] = span;
        }
        spans.resize(kept);
    }
    // The first cycle from `cycle` on in which the word is read, in which it is overwritten.
    uint32_t next_read(uint32_t word, uint32_t cycle) const {
        const auto at = std::lower_bound(spans.begin(), spans.end(), cycle, [&](const Span& s, uint32_t c) {
            return s.word != word ? s.word < word : s.end < c;
        });
        return at == spans.end() || at->word != word ? NEVER : std::max(at->start, cycle);
    }
    uint32_t next_kill(uint32_t word, uint32_t cycle) const {
        const auto at = std::lower_bound(kills.begin(), kills.end(), std::make_pair(word, cycle));
        return at == kills.end() || at->first != word ? NEVER : at->second;
    }
};

class Memories {
    struct Image { std::vector<uint8_t*> words; uint32_t cycle = 0; };

    Model& model;
    Image own, golden;                 // the model's; the fault-free ones beside them
    std::vector<Bytes> golden_words;
    Log history, undo;                 // all golden writes; this experiment's changes of ROMs
    Numbers first_change;              // cycle -> entry of the history
    Numbers first_word, memory_of;     // memory -> number of its word 0, and back
    Bytes listed;                      // word -> whether it is in `differing`
    std::vector<bool> written;         // memory -> whether the design writes it
    Bytes kept;                        // contents of the written memories every `stride` cycles
    size_t kept_bytes = 0;
    uint32_t stride = 1;
    Bytes value;                       // the word being written

    uint8_t* at(const Image& image, uint32_t memory, uint32_t address) const {
        return image.words[memory] + size_t(address) * model.memories[memory].bytes;
    }
    size_t size(uint32_t memory) const {
        return size_t(model.memories[memory].bytes) * model.memories[memory].depth;
    }

    // Overwrite one word of one image; it may differ from now on.
    void put(const Image& image, uint32_t memory, uint32_t address, const uint8_t* word) {
        const uint32_t number = first_word[memory] + address;
        copy_word(at(image, memory, address), word, model.memories[memory].bytes);
        if (listed[number]) return;
        listed[number] = 1;
        differing.push_back(number);
    }

    static uint64_t address_of(const uint8_t* port, uint32_t bytes) {
        return bytes > 8 ? small_word(port, 8) : small_word(port, bytes);
    }

    // Call `store(port, address, new word)` for each memory word that this cycle writes.
    template <class F> void each_write(F store) {
        for (const WritePort& port : model.writes) {
            const Memory& memory = model.memories[port.memory];
            if (is_zero(port.enable, memory.bytes)) continue;
            const uint64_t address = address_of(port.address, port.address_bytes) - memory.offset;
            if (address >= memory.depth) continue;
            const uint8_t* old = memory.words + address * memory.bytes;
            if (memory.bytes <= 8) {
                const uint64_t enable = small_word(port.enable, memory.bytes);
                const uint64_t word = (small_word(old, memory.bytes) & ~enable) |
                                      (small_word(port.data, memory.bytes) & enable);
                store(port, uint32_t(address), (const uint8_t*)&word);
                continue;
            }
            value.resize(memory.bytes);
            for (uint32_t i = 0; i < memory.bytes; ++i)
                value[i] = (old[i] & ~port.enable[i]) | (port.data[i] & port.enable[i]);
            store(port, uint32_t(address), value.data());
        }
    }

    void keep() {
        size_t to = kept.size();
        kept.resize(to + kept_bytes);
        for (uint32_t n = 0; n < written.size(); ++n) {
            if (!written[n]) continue;
            std::memcpy(&kept[to], own.words[n], size(n));
            to += size(n);
        }
    }

public:
    Accesses accesses;
    Numbers differing;  // after compare_with: the words in which the model's memories are not golden

    explicit Memories(Model& m) : model(m), written(m.memories.size()) {
        for (const WritePort& port : m.writes) written[port.memory] = true;
        for (uint32_t n = 0; n < m.memories.size(); ++n) {
            own.words.push_back(m.memories[n].words);
            first_word.push_back(uint32_t(memory_of.size()));
            memory_of.resize(memory_of.size() + m.memories[n].depth, n);
            if (written[n]) kept_bytes += size(n);
        }
        listed.assign(memory_of.size(), 0);
    }

    // ------------------------------------------------------------------------ the golden run

    void write_before_golden() {
        each_write([&](const WritePort& port, uint32_t address, const uint8_t* word) {
            std::memcpy(at(own, port.memory, address), word, model.memories[port.memory].bytes);
        });
    }
    void begin_golden(uint32_t max_cycles, size_t budget_bytes, size_t access_budget_bytes) {
        for (uint32_t n = 0; n < model.memories.size(); ++n)
            golden_words.emplace_back(own.words[n], own.words[n] + size(n));
        for (Bytes& words : golden_words) golden.words.push_back(words.data());
        accesses.begin(model.reads.size(), access_budget_bytes);
        stride = uint32_t(16 + uint64_t(kept_bytes) * max_cycles / budget_bytes);
        first_change.push_back(0);
    }
    void golden_cycle(uint32_t cycle) {
        if (cycle % stride == 0) keep();
        for (size_t n = 0; n < model.reads.size(); ++n) {
            const ReadPort& port = model.reads[n];
            const Memory& memory = model.memories[port.memory];
            const uint64_t address = address_of(port.address, port.address_bytes) - memory.offset;
            const bool inside = address < memory.depth;
            accesses.read(n, inside ? first_word[port.memory] + uint32_t(address) : NEVER, cycle);
        }
        each_write([&](const WritePort& port, uint32_t address, const uint8_t* word) {
            const Memory& memory = model.memories[port.memory];
            uint8_t* old = at(own, port.memory, address);
            const uint32_t number = first_word[port.memory] + address;
            if (differ(port.enable, memory.full.data(), memory.bytes))
                accesses.partial_write(number, cycle);
            else
                accesses.whole_write(number, cycle);
            history.note(port.memory, address, old, word, memory.bytes);
            std::memcpy(old, word, memory.bytes);
        });
        first_change.push_back(uint32_t(history.entries.size()));
    }
    void end_golden(uint32_t cycles) {
        if (cycles % stride == 0) keep();
        accesses.finish();
    }

    // -------------------------------------------------------------------------- an experiment

    // Both images at a cycle, without any difference.
    void restore(uint32_t cycle) {
        for (uint32_t number : differing) listed[number] = 0;
        differing.clear();
        for (size_t i = undo.entries.size(); i-- > 0;) {
            const Log::Entry& e = undo.entries[i];
            copy_word(at(own, e.memory, e.address), &undo.bytes[e.bytes],
                      model.memories[e.memory].bytes);
        }
        undo.entries.clear();
        undo.bytes.clear();
        const uint32_t begin = cycle / stride * stride;
        const uint8_t* from = kept.data() + size_t(cycle / stride) * kept_bytes;
        for (uint32_t n = 0; n < written.size(); ++n) {
            if (!written[n]) continue;
            std::memcpy(own.words[n], from, size(n));
            std::memcpy(golden.words[n], from, size(n));
            from += size(n);
        }
        for (uint32_t i = first_change[begin]; i < first_change[cycle]; ++i) {
            const Log::Entry& e = history.entries[i];
            const uint32_t bytes = model.memories[e.memory].bytes;
            copy_word(at(own, e.memory, e.address), &history.bytes[e.bytes + bytes], bytes);
            copy_word(at(golden, e.memory, e.address), &history.bytes[e.bytes + bytes], bytes);
        }
        golden.cycle = cycle;
    }

    // The fault-free image at a cycle: `differing` is what differs from it.
    void compare_with(uint32_t cycle) {
        for (; golden.cycle < cycle; ++golden.cycle)
            for (uint32_t i = first_change[golden.cycle]; i < first_change[golden.cycle + 1]; ++i) {
                const Log::Entry& e = history.entries[i];
                put(golden, e.memory, e.address,
                    &history.bytes[e.bytes + model.memories[e.memory].bytes]);
            }
        while (golden.cycle > cycle) {
            --golden.cycle;
            for (uint32_t i = first_change[golden.cycle + 1]; i-- > first_change[golden.cycle];) {
                const Log::Entry& e = history.entries[i];
                put(golden, e.memory, e.address, &history.bytes[e.bytes]);
            }
        }
        size_t left = 0;
        for (uint32_t number : differing) {
            const uint32_t n = memory_of[number], address = number - first_word[n];
            listed[number] = differ(at(own, n, address), at(golden, n, address), model.memories[n].bytes);
            if (listed[number]) differing[left++] = number;
        }
        differing.resize(left);
    }
    void store() {
        each_write([&](const WritePort& port, uint32_t address, const uint8_t* word) {
            put(own, port.memory, address, word);
        });
    }

    // The model's word number `number`.
    Bytes word(uint32_t number) const {
        const uint32_t memory = memory_of[number];
        const uint8_t* from = at(own, memory, number - first_word[memory]);
        return Bytes(from, from + model.memories[memory].bytes);
    }
    void set_word(uint32_t number, const Bytes& word) {
        const uint32_t memory = memory_of[number], address = number - first_word[memory];
        if (!written[memory])
            undo.note(memory, address, at(own, memory, address), word.data(), uint32_t(word.size()));
        put(own, memory, address, word.data());
    }

    // Memory bit number `bit`, as `Space` counts: its word and its position there.
    std::pair<uint32_t, uint32_t> locate(uint64_t bit) const {
        for (size_t n = 0; n < model.memories.size(); ++n) {
            const Memory& m = model.memories[n];
            const uint64_t bits = uint64_t(m.width) * m.depth;
            if (bit < bits) return {first_word[n] + uint32_t(bit / m.width), uint32_t(bit % m.width)};
            bit -= bits;
        }
        throw std::runtime_error("a fault strikes no bit");
    }
};
