// What the C++ files of this package share: threads, and products of bf16 tiles by the matrix units of Intel CPUs (AMX).
// It is put in front of each of them (see amx.py).

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using bf16 = uint16_t;

namespace {

constexpr int kTile = 512;  // bf16 numbers of a tile: 16 rows of 32

// --- threads ------------------------------------------------------------------------------------------

// Calls task(0) ... task(count - 1) on the pool's threads and on this one, which waits only for tasks that others have
// begun: so calls that occupy all threads of the pool end too.
void ForEach(ffi::ThreadPool& pool, int count, std::function<void(int)> task) {
  struct Shared {
    std::function<void(int)> task;
    int count;
    std::atomic<int> next{0};
    std::mutex mutex;
    std::condition_variable changed;
    int done = 0;
  };
  auto shared = std::make_shared<Shared>();
  shared->task = std::move(task);
  shared->count = count;
  std::function<void()> work = [shared] {
    int mine = 0;
    for (int i; (i = shared->next.fetch_add(1)) < shared->count; ++mine) shared->task(i);
    if (mine) {
      std::lock_guard<std::mutex> lock(shared->mutex);
      if ((shared->done += mine) == shared->count) shared->changed.notify_all();
    }
  };
  int helpers = std::min<int>(pool.num_threads(), count) - 1;
  for (int i = 0; i < helpers; ++i) pool.Schedule([work] { work(); });
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->changed.wait(lock, [&] { return shared->done == shared->count; });
}

// --- numbers ------------------------------------------------------------------------------------------

struct Free {
  void operator()(bf16* numbers) const { ::operator delete(numbers, std::align_val_t(64)); }
};
using Buffer = std::unique_ptr<bf16[], Free>;
Buffer Allocate(size_t numbers) {
  return Buffer(static_cast<bf16*>(::operator new(numbers * sizeof(bf16), std::align_val_t(64))));
}

__m256i Rounded(const float* x) { return (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x)); }

// Sixteen numbers of two rows, in pairs: what the right side of a product of tiles has in one row.
__m512i Pairs(const float* first, const float* second) {
  const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(Rounded(second)), 16);
  return _mm512_or_si512(_mm512_cvtepu16_epi32(Rounded(first)), high);
}

// --- products -----------------------------------------------------------------------------------------

struct Tiles {  // eight tiles of 16 rows of 64 bytes, for as long as this lives
  Tiles() {
    alignas(64) static const uint8_t config[64] = {1,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  // the palette
                                                   64, 0, 64, 0, 64, 0, 64, 0, 64, 0, 64, 0, 64, 0, 64, 0,  // bytes
                                                   0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                   16, 16, 16, 16, 16, 16, 16, 16};  // rows
    _tile_loadconfig(config);
  }
  ~Tiles() { _tile_release(); }
};

void Clear() {
  asm volatile("" ::: "memory");  // what was stored is there before tiles are loaded, which GCC is not told
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Adds the product of 32 rows and 32 columns, over 32 numbers.
void Multiply(const bf16* left, const bf16* lower, size_t row, const bf16* right, const bf16* next) {
  _tile_loadd(4, left, row);
  _tile_loadd(6, right, 64);
  _tile_loadd(5, lower, row);
  _tile_loadd(7, next, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

void Store(float* to, size_t row) {  // numbers between two rows
  _tile_stored(0, to, row * 4);
  _tile_stored(1, to + 16, row * 4);
  _tile_stored(2, to + 16 * row, row * 4);
  _tile_stored(3, to + 16 * row + 16, row * 4);
}

}  // namespace

// Why this process cannot use them, or nullptr. Linux gives the registers of the tiles to those that ask for them.
extern "C" const char* refusal() {
  const int request = 0x1023, tiles = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  const bool refused = syscall(SYS_arch_prctl, request, tiles) != 0;
  return refused ? "the system does not let this process use AMX, as in some containers" : nullptr;
}
