// Guest memory in helpers: %gs is the host address of guest address 0. A helper that calls these declares MAY_FAULT.
#pragma once
#include "ir/support/bits.h"

namespace kiln::x86 {

template <class T>
using GuestPointer = volatile T __attribute__((address_space(256)))*;

template <class T>
inline T guest_load(u64 address) {
  return *reinterpret_cast<GuestPointer<T>>(address);
}
template <class T>
inline void guest_store(u64 address, T value) {
  *reinterpret_cast<GuestPointer<T>>(address) = value;
}

/// `size`: any; eight bytes at a time.
inline void copy_from_guest(void* to, u64 from, std::size_t size) {
  u8* out = static_cast<u8*>(to);
  for (; size >= 8; size -= 8, from += 8, out += 8) {
    const u64 v = guest_load<u64>(from);
    std::memcpy(out, &v, 8);
  }
  for (; size; --size) *out++ = guest_load<u8>(from++);
}

/// Faults, as a write does, unless all of the range can be written; changes nothing. A store of several pieces is then whole or
/// not at all.
inline void probe_guest_write(u64 address, std::size_t size) {
  constexpr u64 kPage = 4096;
  asm volatile("lock orb $0, %%gs:(%0)" : : "r"(address) : "memory", "cc");
  for (u64 page = align_down(address, kPage) + kPage; page < address + size; page += kPage)
    asm volatile("lock orb $0, %%gs:(%0)" : : "r"(page) : "memory", "cc");
}
inline void copy_to_guest(u64 to, const void* from, std::size_t size) {
  probe_guest_write(to, size);
  const u8* in = static_cast<const u8*>(from);
  for (; size >= 8; size -= 8, to += 8, in += 8) {
    u64 v;
    std::memcpy(&v, in, 8);
    guest_store<u64>(to, v);
  }
  for (; size; --size) guest_store<u8>(to++, *in++);
}

}  // namespace kiln::x86
