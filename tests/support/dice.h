// Dice: numbers from a seed.

#ifndef ZEROMINI_TESTS_SUPPORT_DICE_H_
#define ZEROMINI_TESTS_SUPPORT_DICE_H_

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace zeromini {

inline uint64_t Mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The standard distributions differ by library; the same seed must not.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(Mix(seed)) {}

  uint64_t Bits() { return state_ = Mix(state_); }
  int Int(int least, int most) {
    return least + static_cast<int>(Bits() % uint64_t(most - least + 1));
  }
  bool OneIn(int chances) { return Int(1, chances) == 1; }
  template <typename T>
  T Of(std::initializer_list<T> choices) {
    return *(choices.begin() + Int(0, static_cast<int>(choices.size()) - 1));
  }
  template <typename T>
  void Shuffle(std::vector<T>* items) {
    for (size_t i = items->size(); i > 1; --i) {
      std::swap((*items)[i - 1], (*items)[Bits() % i]);
    }
  }

 private:
  uint64_t state_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_DICE_H_
