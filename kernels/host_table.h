// HostTable: the table of one set of host kernels. Not for the files of a
// level, see kernels/cpu/level.h.

#ifndef ZEROMINI_KERNELS_HOST_TABLE_H_
#define ZEROMINI_KERNELS_HOST_TABLE_H_

#include "kernels/decide.h"
#include "kernels/host_columns.h"
#include "kernels/host_kernels.h"
#include "kernels/rounding_sequence.h"
#include "zeromini/kernels.h"

namespace zeromini {

template <const HostKernels& kernels>
struct HostTable {
  template <auto member>
  struct Call;

  template <typename Args, void (*HostKernels::*member)(const Args&)>
  struct Call<member> {
    static absl::Status Always(const Args& args, Stream) {
      (kernels.*member)(args);
      return absl::OkStatus();
    }

    static absl::Status Gated(const Args& args, Stream stream) {
      if (args.scalars->update == 0) return absl::OkStatus();
      return Always(args, stream);
    }

    static absl::Status Codec(const Args& args, Stream stream) {
      Args now = args;
      now.seed = RoundingSequence(args.seed, 0);
      if (args.scalars != nullptr) {
        if (args.scalars->update == 0) return absl::OkStatus();
        now.seed = RoundingSequence(args.seed, args.scalars->step);
      }
      return Always(now, stream);
    }
  };

  static absl::Status CodedUpdate(const CodedUpdateArgs& args, Stream) {
    if (args.scalars->update == 0) return absl::OkStatus();
    CodedUpdateArgs now = args;
    for (uint64_t* seed :
         {&now.weights.seed, &now.momentum.seed, &now.second_moment.seed}) {
      *seed = RoundingSequence(*seed, args.scalars->step);
    }
    kernels.coded_update(now);
    return absl::OkStatus();
  }

  static absl::Status Copy(const CopyArgs& args, Stream) {
    if (args.only_if == nullptr || args.only_if->update != 0) {
      kernels.copy(args);
    }
    return absl::OkStatus();
  }

  static absl::Status AddWords(const AddWordsArgs& args, Stream) {
    for (int64_t i = 0; i < args.count; ++i) args.sum[i] += args.addend[i];
    return absl::OkStatus();
  }

  static absl::Status Decided(const DecideArgs& args, Stream) {
    Decide(args);
    return absl::OkStatus();
  }

  static absl::Status ColumnTops(const ColumnArgs& args, Stream) {
    TakeColumnTops(args);
    return absl::OkStatus();
  }

  static absl::Status ColumnWords(const ColumnArgs& args, Stream) {
    TakeColumnWords(args);
    return absl::OkStatus();
  }

  static constexpr KernelTable Named(const char* name) {
    return {name,
            Call<&HostKernels::row_sums>::Always,
            Call<&HostKernels::adam_mini_step>::Gated,
            Call<&HostKernels::adam_mini_fused>::Gated,
            Call<&HostKernels::adamw>::Gated,
            Copy,
            Call<&HostKernels::accumulate>::Always,
            Call<&HostKernels::sgd>::Gated,
            Call<&HostKernels::clamp>::Always,
            Call<&HostKernels::unpack_weights>::Codec,
            Call<&HostKernels::pack_weights>::Codec,
            Call<&HostKernels::unpack_state>::Codec,
            Call<&HostKernels::pack_state>::Codec,
            Call<&HostKernels::statistics>::Always,
            AddWords,
            Decided,
            ColumnTops,
            ColumnWords,
            Call<&HostKernels::column_moments>::Always,
            Call<&HostKernels::factored_step>::Gated,
            CodedUpdate};
  }
};

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_HOST_TABLE_H_
