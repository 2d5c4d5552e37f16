// 512 lanes in one value: lane l is bit l % 64 of word l / 64. Lane 0 is the fault-free run.
//
// With AVX-512 a 3-input LUT is one instruction; elsewhere it is the formula that gates_code.py
// writes for each table in use (TERCET_FORMULAS). The lanes are 512 everywhere, so that results
// are the same. DIFFERS adds the lanes in which `a` is not `mask` in all of 64 neighbours.

#pragma once

#include <cstdint>

#if defined(__AVX512F__) && !defined(TERCET_PORTABLE)
#include <immintrin.h>
typedef __m512i V;
#define T(table, a, b, c) _mm512_ternarylogic_epi64(c, b, a, table)
#define NOT(a) _mm512_ternarylogic_epi64(a, a, a, 0x55)
#define DIFFERS(all, a, mask) _mm512_ternarylogic_epi64(all, a, _mm512_set1_epi64(mask), 0xF6)
#define DIFFERS_NOT(all, a, mask) _mm512_ternarylogic_epi64(all, a, _mm512_set1_epi64(mask), 0xF9)
#else
typedef long long V __attribute__((vector_size(64), may_alias));
template <int table> inline __attribute__((always_inline)) V lut3(V a, V b, V c);
#define T(table, a, b, c) lut3<table>(a, b, c)
#define NOT(a) (~(a))
#define DIFFERS(all, a, mask) ((all) | ((a) ^ (V{} + (mask))))
#define DIFFERS_NOT(all, a, mask) ((all) | ((a) ^ (V{} + ~(mask))))
#endif

constexpr int LANES = 512, WORDS = LANES / 64;
