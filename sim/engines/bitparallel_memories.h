// Memories of 512 lanes: the fault-free words once, and for each lane the words that differ.
//
// `dirty[memory][address]` are the lanes whose word differs; only these, and lanes whose address,
// data or enable differs, are served one by one. A lane's own word is kept beside, and is valid
// where it is dirty.

// Bits of lanes as words of lanes and back: `values[stride * lane]` are up to 64 bits, bit k the
// lane's bit of `from[k]` or what is inverted in `to[k]`. Where several of 64 neighbouring lanes are
// asked for, bytes of all of them are made at once.

constexpr int SEVERAL = 3;

inline void gather(const V* from, uint32_t bits, const V& lanes, uint64_t* values, uint32_t stride) {
    for (int block = 0; block < WORDS; ++block) {
        uint64_t left = words(lanes)[block];
#if defined(__AVX512BW__) && !defined(TERCET_PORTABLE)
        if (__builtin_popcountll(left) >= SEVERAL) {
            alignas(64) uint8_t bytes[8][64];
            const uint32_t planes = (bits + 7) / 8;
            for (uint32_t j = 0; j < planes; ++j) {
                V plane = zeros();
                for (uint32_t k = 8 * j; k < std::min(bits, 8 * j + 8); ++k)
                    plane |= _mm512_maskz_set1_epi8(words(from[k])[block], char(1 << (k & 7)));
                _mm512_store_si512(bytes[j], plane);
            }
            for (; left; left &= left - 1) {
                const uint32_t l = __builtin_ctzll(left);
                uint64_t value = 0;
                for (uint32_t j = 0; j < planes; ++j) value |= uint64_t(bytes[j][l]) << 8 * j;
                values[size_t(stride) * (64 * block + l)] = value;
            }
            continue;
        }
#endif
        for (; left; left &= left - 1) {
            const uint32_t lane = 64 * block + __builtin_ctzll(left);
            uint64_t value = 0;
            for (uint32_t k = 0; k < bits; ++k) value |= uint64_t(bit(from[k], lane)) << k;
            values[size_t(stride) * lane] = value;
        }
    }
}

inline void scatter(V* to, uint32_t bits, const V& lanes, const uint64_t* values, uint32_t stride) {
    for (int block = 0; block < WORDS; ++block) {
        uint64_t left = words(lanes)[block];
#if defined(__AVX512BW__) && !defined(TERCET_PORTABLE)
        if (__builtin_popcountll(left) >= SEVERAL) {
            alignas(64) uint8_t bytes[8][64];
            const uint32_t planes = (bits + 7) / 8;
            for (uint32_t j = 0; j < planes; ++j) _mm512_store_si512(bytes[j], zeros());
            for (; left; left &= left - 1) {
                const uint32_t l = __builtin_ctzll(left);
                const uint64_t value = values[size_t(stride) * (64 * block + l)];
                for (uint32_t j = 0; j < planes; ++j) bytes[j][l] = uint8_t(value >> 8 * j);
            }
            for (uint32_t j = 0; j < planes; ++j) {
                const V plane = _mm512_load_si512(bytes[j]);
                const uint32_t end = std::min(bits, 8 * j + 8);
                V one = _mm512_set1_epi8(1);
                for (uint32_t k = 8 * j; k < end; ++k, one = _mm512_add_epi8(one, one))
                    words(to[k])[block] ^= _mm512_test_epi8_mask(plane, one);
            }
            continue;
        }
#endif
        for (; left; left &= left - 1) {
            const uint32_t lane = 64 * block + __builtin_ctzll(left);
            for (uint64_t value = values[size_t(stride) * lane]; value; value &= value - 1)
                invert(to[__builtin_ctzll(value)], lane);
        }
    }
}

struct LaneMemories {
    Contents& golden_words;
    V* w;                                            // the slots of the model
    std::vector<Vectors> dirty;
    std::vector<std::unique_ptr<uint64_t[], FreeDeleter>> own;  // [address][lane][words]
    std::array<uint32_t, LANES> differing{};         // words of a lane that differ
    V has{};                                         // lanes with such words
    V apart{};                                       // lanes that once read elsewhere
    Numbers dirty_words;                             // of each memory, over all lanes
    std::array<std::vector<std::pair<uint32_t, uint32_t>>, LANES> touched;
    std::array<uint64_t, LANES> address{};           // of lanes whose address differs
    Words value, lane_word, lane_words;              // lane_words: of lanes that are served singly
    ChangeLog* log = nullptr;                        // of the fault-free run, while it is recorded

    struct Late { uint32_t lane, address; };
    std::vector<Late> late;                          // words to store after the fault-free write
    Words late_words;

    LaneMemories(Contents& contents, V* slots) : golden_words(contents), w(slots) {
        uint32_t most = 1;
        for (size_t m = 0; m < MEMORIES.size(); ++m) {
            const size_t depth = MEMORIES[m].depth, size = contents.size[m];
            dirty.push_back(Vectors(static_cast<V*>(zeroed(sizeof(V) * depth))));
            own.emplace_back(static_cast<uint64_t*>(zeroed(8 * size * LANES * depth)));
            most = std::max(most, contents.size[m]);
        }
        dirty_words.resize(MEMORIES.size());
        value.resize(most);
        lane_word.resize(most);
        lane_words.resize(size_t(most) * LANES);
    }

    // Pages appear when they are first written.
    static void* zeroed(size_t bytes) {
        void* p = std::calloc(1, bytes + 64);
        if (!p) throw std::runtime_error("out of memory");
        return p;
    }

    uint64_t* own_word(uint32_t m, uint32_t a, uint32_t lane) {
        return &own[m][(size_t(a) * LANES + lane) * golden_words.size[m]];
    }
    V& dirty_at(uint32_t m, uint32_t a) {
        const uintptr_t base = (reinterpret_cast<uintptr_t>(dirty[m].get()) + 63) & ~uintptr_t(63);
        return reinterpret_cast<V*>(base)[a];
    }
    const uint64_t* word(uint32_t m, uint32_t a, uint32_t lane) {
        return bit(dirty_at(m, a), lane) ? own_word(m, a, lane) : golden_words.at(m, a);
    }

    // The lane's word from now on; not dirty if it is the fault-free one.
    void put(uint32_t m, uint32_t a, uint32_t lane, const uint64_t* to) {
        const uint32_t size = golden_words.size[m];
        V& lanes = dirty_at(m, a);
        const bool was = bit(lanes, lane), is = !std::equal(to, to + size, golden_words.at(m, a));
        if (is) std::copy_n(to, size, own_word(m, a, lane));
        if (was == is) return;
        if (!is) return agree(m, a, lane);
        invert(lanes, lane);
        ++dirty_words[m];
        if (!differing[lane]++) set(has, lane);
        touched[lane].push_back({m, a});
    }

    // A word of the lane that was dirty is the fault-free one.
    void agree(uint32_t m, uint32_t a, uint32_t lane) {
        invert(dirty_at(m, a), lane);
        --dirty_words[m];
        if (!--differing[lane]) forget(lane);
    }

    void forget(uint32_t lane) {
        ::clear(has, lane);
        touched[lane].clear();
    }

    // Memory and address of each word of the lane that differs.
    const std::vector<std::pair<uint32_t, uint32_t>>& differing_words(uint32_t lane) {
        auto& places = touched[lane];
        if (places.size() == differing[lane]) return places;
        std::sort(places.begin(), places.end());
        places.erase(std::unique(places.begin(), places.end()), places.end());
        const auto gone = [&](const auto& p) { return !bit(dirty_at(p.first, p.second), lane); };
        places.erase(std::remove_if(places.begin(), places.end(), gone), places.end());
        return places;
    }

    // Whether at the start of cycle t the words of the lane are the fault-free ones of another cycle.
    bool as_in(uint32_t cycle, uint32_t lane, const ChangeLog& changes, uint32_t t) {
        std::map<std::pair<uint32_t, uint32_t>, size_t> then;  // words that change between: the value
        const size_t from = changes.first[std::min(cycle, t)], to = changes.first[std::max(cycle, t)];
        for (size_t i = from; i < to; ++i) {
            const Change& c = changes.changes[i];
            if (cycle < t) then.insert({{c.memory, c.address}, c.at});
            else then[{c.memory, c.address}] = c.at + golden_words.size[c.memory];
        }
        uint32_t explained = 0;
        for (const auto& [place, at] : then) {
            const auto [m, a] = place;
            const uint64_t *other = &changes.values[at], *now = word(m, a, lane);
            if (!std::equal(now, now + golden_words.size[m], other)) return false;
            explained += bit(dirty_at(m, a), lane);
        }
        return explained == differing[lane];
    }

    // All words of the lane are the fault-free ones.
    void reset(uint32_t lane) {
        for (const auto& [m, a] : touched[lane]) {
            dirty_words[m] -= bit(dirty_at(m, a), lane);
            ::clear(dirty_at(m, a), lane);
        }
        differing[lane] = 0;
        forget(lane);
    }

    // ------------------------------------------------------------------------------------- reads

    // Index of the word in the memory; its depth or more where there is none.
    static uint32_t index(uint32_t m, uint64_t a) {
        const uint64_t at = a - MEMORIES[m].offset;
        return uint32_t(std::min<uint64_t>(at, 0xffffffffu));
    }

    // Serve the read ports of a stage for the lanes `busy`; what others read is the golden word.
    void read(uint32_t stage, const V& busy) {
        for (size_t i = 0; i < READS.size();) {
            const uint32_t group = READS[i].group;
            if (READS[i].stage != stage) { ++i; continue; }
            const uint32_t slot = READS[i].address, bits = READS[i].address_bits;
            V other = zeros();
            uint64_t a = 0;
            for (uint32_t k = 0; k < bits; ++k) {
                const bool one = golden(w[slot + k]);
                a |= uint64_t(one) << k;
                other |= w[slot + k] ^ spread(one);
            }
            other &= busy;
            apart |= other;
            if (any(other)) gather(w + slot, bits, other, address.data(), 1);
            for (; i < READS.size() && READS[i].stage == stage && READS[i].group == group; ++i)
                serve(READS[i], a, other, busy);
        }
    }

    void serve(const ReadRow& port, uint64_t a, const V& other, const V& busy) {
        const uint32_t m = port.memory, width = MEMORIES[m].width, depth = MEMORIES[m].depth;
        const uint32_t golden_index = index(m, a);
        static const Words nothing(1024);
        if (log && golden_index < depth) log->access(log->uses, m, golden_index);
        const uint64_t* plain = golden_index < depth ? golden_words.at(m, golden_index) : nothing.data();
        V* to = w + port.data;
        for (uint32_t k = 0; k < width; ++k) to[k] = spread(plain[k >> 6] >> (k & 63) & 1);
        V lanes = other;
        const bool clean = !dirty_words[m];
        if (golden_index < depth && !clean) lanes |= dirty_at(m, golden_index) & busy;
        if (!any(lanes)) return;
        const uint32_t size = golden_words.size[m];
        const uint64_t* table = golden_words.words[m].data();
        const uint32_t offset = MEMORIES[m].offset;
        if (clean && size == 1) each(lanes, [&](uint32_t lane) {
            const uint64_t mine = address[lane] - offset;
            lane_words[lane] = (mine < depth ? table[mine] : 0) ^ plain[0];
        });
        else each(lanes, [&](uint32_t lane) {
            const uint32_t mine = bit(other, lane) ? index(m, address[lane]) : golden_index;
            const uint64_t* read = mine < depth ? word(m, mine, lane) : nothing.data();
            for (uint32_t i = 0; i < size; ++i) lane_words[size * lane + i] = read[i] ^ plain[i];
        });
        for (uint32_t i = 0; i < size; ++i)
            scatter(to + 64 * i, std::min<uint32_t>(width - 64 * i, 64), lanes, &lane_words[i], size);
    }

    // ------------------------------------------------------------------------------------ writes

    // All writes of a cycle; the fault-free words move to the next cycle.
    void write(const V& busy) {
        for (const WriteRow& port : WRITES) write_port(port, busy);
    }

    // The word after a write by `lane` of `data` over `old`; false if nothing is enabled.
    bool merged(const WriteRow& port, uint32_t lane, const uint64_t* data, const uint64_t* old,
                Words& result) const {
        const uint32_t size = golden_words.size[port.memory];
        bool some = false;
        std::copy_n(old, size, result.data());
        for (uint32_t e = port.first_enable; e < port.first_enable + port.enables; ++e) {
            if (!bit(w[ENABLES[e].slot], lane)) continue;
            some = true;
            const uint64_t* mask = &MASKS[ENABLES[e].mask];
            for (uint32_t i = 0; i < size; ++i)
                result[i] = (result[i] & ~mask[i]) | (data[i] & mask[i]);
        }
        return some;
    }

    // The data that lanes offer to a write port, into `lane_words`.
    void gather_data(const WriteRow& port, const V& lanes) {
        const uint32_t size = golden_words.size[port.memory], width = MEMORIES[port.memory].width;
        for (uint32_t i = 0; i < size; ++i)
            gather(w + port.data + 64 * i, std::min<uint32_t>(width - 64 * i, 64), lanes,
                   &lane_words[i], size);
    }

    // A write port in this cycle: the fault-free address, and the lanes that differ from it.
    struct Strobe { bool enabled = false, full = true; uint64_t address = 0; V other{}; };

    Strobe strobe(const WriteRow& port, const V& busy) const {
        Strobe s;
        for (uint32_t e = port.first_enable; e < port.first_enable + port.enables; ++e) {
            const V& v = w[ENABLES[e].slot];
            const bool one = golden(v);
            s.other |= v ^ spread(one);
            s.enabled |= one;
            s.full &= one;
        }
        if (s.enabled) {
            for (uint32_t k = 0; k < port.address_bits; ++k) {
                const bool one = golden(w[port.address + k]);
                s.address |= uint64_t(one) << k;
                s.other |= w[port.address + k] ^ spread(one);
            }
            // Bits that are not enabled are compared too: at worst a lane is served singly.
            for (uint32_t k = 0; k < MEMORIES[port.memory].width; ++k) {
                const V& v = w[port.data + k];
                s.other |= v ^ spread(golden(v));
            }
        }
        s.other &= busy;
        return s;
    }

    // Lanes whose writes differ in this cycle.
    V writes_otherwise(const V& busy) const {
        V lanes = zeros();
        for (const WriteRow& port : WRITES) lanes |= strobe(port, busy).other;
        return lanes;
    }

    void write_port(const WriteRow& port, const V& busy) {
        const Strobe s = strobe(port, busy);
        if (!s.enabled && !any(s.other)) return;
        const uint32_t m = port.memory, depth = MEMORIES[m].depth;
        const uint32_t at = s.enabled ? index(m, s.address) : depth;
        late.clear();
        late_words.clear();
        V lanes = s.other;
        set(lanes, 0);
        if (at < depth && !s.full) lanes |= dirty_at(m, at) & busy;
        gather_data(port, lanes);
        if (any(s.other)) {
            gather(w + port.address, port.address_bits, s.other, address.data(), 1);
            each(s.other, [&](uint32_t lane) { collect(port, lane, at); });
        }
        if (at < depth) write_golden(port, at, s.full, busy & ~s.other);
        const uint64_t* word = late_words.data();
        for (const Late& one : late) {
            put(m, one.address, one.lane, word);
            word += golden_words.size[m];
        }
    }

    void postpone(uint32_t lane, uint32_t address, const uint64_t* word, uint32_t size) {
        late.push_back({lane, address});
        late_words.insert(late_words.end(), word, word + size);
    }

    // What the lane's word at the golden address will be, and its own write.
    void collect(const WriteRow& port, uint32_t lane, uint32_t at) {
        const uint32_t m = port.memory, depth = MEMORIES[m].depth, size = golden_words.size[m];
        const uint32_t mine = index(m, address[lane]);
        const bool writes = mine < depth && merged(port, lane, &lane_words[size * lane],
                                                   word(m, mine, lane), lane_word);
        if (at < depth && !(writes && at == mine)) postpone(lane, at, word(m, at, lane), size);
        if (writes) postpone(lane, mine, lane_word.data(), size);
    }

    // The fault-free write; lanes that write the same keep what they had in the other bits.
    void write_golden(const WriteRow& port, uint32_t at, bool full, const V& same) {
        const uint32_t m = port.memory, size = golden_words.size[m];
        uint64_t* stored = golden_words.at(m, at);
        merged(port, 0, lane_words.data(), stored, value);
        if (log) {
            log->access(full ? log->kills : log->uses, m, at);
            log->changes.push_back({m, at, log->values.size()});
            log->values.insert(log->values.end(), stored, stored + size);
            log->values.insert(log->values.end(), value.begin(), value.begin() + size);
        }
        const V lanes = dirty_at(m, at) & same;
        if (full) each(lanes, [&](uint32_t lane) { agree(m, at, lane); });
        else each(lanes, [&](uint32_t lane) {
            merged(port, lane, &lane_words[size * lane], own_word(m, at, lane), lane_word);
            postpone(lane, at, lane_word.data(), size);
        });
        std::copy_n(value.begin(), size, stored);
    }
};
