/*
 * base/pack.h: a small coder for structs that are alike: what is zero, what a template has, and what was just said cost
 * little.
 *
 * The struct is taken as words of 32 bits. Each is compared with the template's; only those that differ are written, as
 * tokens in order:
 *
 *     token = run << 4 | kind   run: words as in the template that were passed over; 15: so many and one byte's worth more
 *     kind 0-3    the word XOR the template's, in 1 + kind bytes
 *     kind 4-12   the very word of place kind - 4 among the last PACK_WORDS larger ones
 *     kind 13     zero, where the template has something else
 *     kind 14     near one of them: place, then a signed difference, a byte each
 *     kind 15     nothing: 271 words passed over
 *
 * Large words that were spelled out are remembered, round robin. So sequence numbers of one direction and times of one
 * moment are told once. Packer and reader keep the same memory; neither knows what the words mean, so what a program of
 * another version packed can be read. Total functions, no allocation; reading is safe on any bytes.
 */
#ifndef TAUT_BASE_PACK_H
#define TAUT_BASE_PACK_H

#include <stddef.h>
#include <stdint.h>

/*
 * Packs `bytes` bytes (a multiple of 4) at `from` into `to` of `room`. The bytes written; SIZE_MAX: they are more than room.
 * `like`: the template, as many bytes; NULL: zero.
 */
size_t pack(const void *from, const void *like, size_t bytes, uint8_t *to, size_t room);
/* The reverse: `n` bytes at `from` into `bytes` at `to`. 0, or -1: no such packing comes of that many bytes. */
int unpack(const uint8_t *from, size_t n, const void *like, void *to, size_t bytes);

#endif
