#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <tuple>

#include "shard/bucket_layout.h"

namespace zeromini {
namespace {

// A size of unit that holds this share of a bucket can fill what others leave.
constexpr int64_t kFillerShare = 20;
// Segments tried: by small steps, then by those that suit the fillers, then by
// growth that must end.
constexpr int kFineTries = 16;
constexpr int kLargeTries = 64;
constexpr int kHalvings = 8;

int64_t RoundUp(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

// All units of one size, dealt in order of parameter and row.
struct Kind {
  int64_t size = 0;
  int64_t units = 0;
  std::vector<Stretch> stretches;
};

// A kind while it is dealt.
struct Deck {
  const Kind* kind = nullptr;
  int64_t left = 0;
  size_t stretch = 0;
  int64_t taken = 0;  // Of that stretch.
};

struct Deal {
  std::vector<Kind> kinds;  // Largest units first.
  size_t filler = 0;        // The smallest units that a bucket has plenty of.
  // Larger units of which each rank takes a few more or less, so that what
  // remains is a multiple of the filler; none: kinds.size().
  size_t adjuster = 0;
};

Deal Prepare(const std::vector<Stretch>& stretches, int ranks) {
  std::map<int64_t, Kind, std::greater<int64_t>> by_size;
  int64_t total = 0;
  for (const Stretch& stretch : stretches) {
    Kind& kind = by_size[stretch.unit_elements];
    kind.size = stretch.unit_elements;
    kind.units += stretch.units;
    kind.stretches.push_back(stretch);
    total += stretch.units * stretch.unit_elements;
  }
  Deal deal;
  for (auto& entry : by_size) deal.kinds.push_back(std::move(entry.second));
  for (size_t i = 0; i < deal.kinds.size(); ++i) {
    const Kind& kind = deal.kinds[i];
    if (kind.units * kind.size >= total / kFillerShare) deal.filler = i;
  }
  deal.adjuster = deal.kinds.size();
  for (size_t i = 0; i < deal.filler; ++i) {
    const Kind& kind = deal.kinds[i];
    if (kind.units >= ranks && kind.size % deal.kinds[deal.filler].size != 0) {
      deal.adjuster = i;
    }
  }
  return deal;
}

void Take(int64_t units, Deck& deck, int64_t* capacity,
          std::vector<PackedPiece>* pieces) {
  *capacity -= units * deck.kind->size;
  deck.left -= units;
  while (units > 0) {
    const Stretch& stretch = deck.kind->stretches[deck.stretch];
    const int64_t now = std::min(units, stretch.units - deck.taken);
    if (pieces != nullptr) {
      pieces->push_back({stretch.param,
                         stretch.first_row + deck.taken * stretch.unit_rows,
                         now * stretch.unit_rows});
    }
    units -= now;
    deck.taken += now;
    if (deck.taken == stretch.units) {
      ++deck.stretch;
      deck.taken = 0;
    }
  }
}

// Units of the adjuster near its fair share that leave least beside fillers.
int64_t Adjust(const Deck& deck, int64_t filler, int64_t capacity,
               int64_t ranks_left) {
  const int64_t size = deck.kind->size;
  const int64_t most = std::min(deck.left, capacity / size);
  if (ranks_left == 1) return most;
  const int64_t fair = deck.left / ranks_left;
  const int64_t period =
      std::min<int64_t>(filler / std::gcd(size, filler), 128);
  int64_t best = std::min(fair, most);
  int64_t best_waste = (capacity - best * size) % filler;
  for (int64_t away = 1; away <= period; ++away) {
    for (int64_t units : {fair + away, fair - away}) {
      if (units < 0 || units > most) continue;
      const int64_t waste = (capacity - units * size) % filler;
      if (waste < best_waste) {
        best = units;
        best_waste = waste;
      }
    }
  }
  return best;
}

// Deals every unit to ranks of `segment` elements; returns the elements that
// found no place.
int64_t DealUnits(const Deal& deal, int ranks, int64_t segment,
                  std::vector<std::vector<PackedPiece>>* pieces) {
  std::vector<Deck> decks;
  for (const Kind& kind : deal.kinds) decks.push_back({&kind, kind.units});
  const int64_t filler = deal.kinds[deal.filler].size;
  for (int rank = 0; rank < ranks; ++rank) {
    const int64_t ranks_left = ranks - rank;
    int64_t capacity = segment;
    std::vector<PackedPiece>* own =
        pieces == nullptr ? nullptr : &(*pieces)[rank];
    for (size_t i = 0; i < deal.filler; ++i) {
      if (i == deal.adjuster) continue;
      Deck& deck = decks[i];
      const int64_t fair = (deck.left + ranks_left - 1) / ranks_left;
      Take(std::min(fair, capacity / deck.kind->size), deck, &capacity, own);
    }
    if (deal.adjuster < decks.size()) {
      Deck& deck = decks[deal.adjuster];
      Take(Adjust(deck, filler, capacity, ranks_left), deck, &capacity, own);
    }
    for (size_t i = deal.filler; i < decks.size(); ++i) {
      Take(std::min(decks[i].left, capacity / decks[i].kind->size), decks[i],
           &capacity, own);
    }
  }
  int64_t unplaced = 0;
  for (const Deck& deck : decks) unplaced += deck.left * deck.kind->size;
  return unplaced;
}

void SortAndMerge(std::vector<PackedPiece>* pieces) {
  std::sort(pieces->begin(), pieces->end(),
            [](const PackedPiece& a, const PackedPiece& b) {
              return std::tie(a.param, a.first_row) <
                     std::tie(b.param, b.first_row);
            });
  std::vector<PackedPiece> merged;
  for (const PackedPiece& piece : *pieces) {
    if (!merged.empty() && merged.back().param == piece.param &&
        merged.back().first_row + merged.back().rows == piece.first_row) {
      merged.back().rows += piece.rows;
    } else {
      merged.push_back(piece);
    }
  }
  *pieces = std::move(merged);
}

// The smallest segment found that takes every unit. Whether one does is not
// monotonic, so this is a search, not a formula.
int64_t SmallestSegment(const Deal& deal, int ranks) {
  int64_t total = 0;
  int64_t large_step = 0;  // Multiples leave nothing beside the fillers.
  int64_t step = 0;
  for (size_t i = 0; i < deal.kinds.size(); ++i) {
    const Kind& kind = deal.kinds[i];
    total += kind.units * kind.size;
    step = std::gcd(step, kind.size);
    if (i == deal.filler) large_step = std::gcd(step, kind.size);
  }
  int64_t segment = RoundUp(
      std::max((total + ranks - 1) / ranks, deal.kinds.front().size), step);
  int64_t too_small = segment - step;
  for (int attempt = 0;; ++attempt) {
    const int64_t unplaced = DealUnits(deal, ranks, segment, nullptr);
    if (unplaced == 0) break;
    too_small = segment;
    const int64_t share = attempt < kFineTries ? unplaced / ranks
                          : attempt < kFineTries + kLargeTries
                              ? unplaced / ranks
                              : segment / 16;
    segment = RoundUp(segment + std::max<int64_t>(share, 1),
                      attempt < kFineTries ? step : large_step);
  }
  for (int i = 0; i < kHalvings && segment - too_small > step; ++i) {
    const int64_t middle = RoundUp(too_small + (segment - too_small) / 2, step);
    if (middle >= segment) break;
    if (DealUnits(deal, ranks, middle, nullptr) == 0) {
      segment = middle;
    } else {
      too_small = middle;
    }
  }
  return segment;
}

}  // namespace

Packing PackUnits(const std::vector<Stretch>& stretches, int ranks) {
  const Deal deal = Prepare(stretches, ranks);
  Packing packing;
  packing.segment = SmallestSegment(deal, ranks);
  packing.pieces.resize(ranks);
  DealUnits(deal, ranks, packing.segment, &packing.pieces);
  for (std::vector<PackedPiece>& pieces : packing.pieces) {
    SortAndMerge(&pieces);
  }
  return packing;
}

}  // namespace zeromini
