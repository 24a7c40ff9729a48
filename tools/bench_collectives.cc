#include "tools/bench_collectives.h"

#include "zeromini/internal/exchange_wait.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

class Ours : public Contender {
 public:
  Ours(Communicator& group, DType wire) : group_(group) {
    exchange_.purpose = Purpose::kGradients;
    exchange_.wire = wire;
  }

  const char* name() const override { return "zeromini"; }

  absl::Status Run(const CollectiveCase& what,
                   CollectiveBuffers& buffers) override {
    ZEROMINI_RETURN_IF_ERROR(Submit(what, buffers));
    return WaitForExchanges(group_);
  }

 private:
  absl::Status Submit(const CollectiveCase& what, CollectiveBuffers& buffers) {
    float* const whole = buffers.whole.get();
    float* const part = buffers.part.get();
    constexpr DType kDType = DType::kFloat32;
    switch (what.collective) {
      case Collective::kReduceScatter:
        return group_.ReduceScatter(whole, part, what.segment, kDType,
                                    exchange_);
      case Collective::kAllGather:
        return group_.AllGather(part, whole, what.segment, kDType, exchange_);
      case Collective::kAllReduce:
        return group_.AllReduce(whole, what.elements(), kDType, ReduceOp::kSum,
                                exchange_);
    }
    return absl::InternalError("no such collective");
  }

  Communicator& group_;
  Exchange exchange_;
};

class Theirs : public Contender {
 public:
  explicit Theirs(RawMpi& mpi) : mpi_(mpi) {}

  const char* name() const override { return "mpi"; }

  absl::Status Run(const CollectiveCase& what,
                   CollectiveBuffers& buffers) override {
    float* const whole = buffers.whole.get();
    float* const part = buffers.part.get();
    switch (what.collective) {
      case Collective::kReduceScatter:
        return mpi_.ReduceScatter(whole, part, what.segment);
      case Collective::kAllGather:
        return mpi_.AllGather(part, whole, what.segment);
      case Collective::kAllReduce:
        return mpi_.AllReduce(whole, what.elements());
    }
    return absl::InternalError("no such collective");
  }

 private:
  RawMpi& mpi_;
};

}  // namespace

const std::map<std::string, Collective>& Collectives() {
  static const auto* const collectives = new std::map<std::string, Collective>{
      {"reduce-scatter", Collective::kReduceScatter},
      {"all-gather", Collective::kAllGather},
      {"all-reduce", Collective::kAllReduce}};
  return *collectives;
}

std::unique_ptr<Contender> OurCollectives(Communicator& group, DType wire) {
  return std::make_unique<Ours>(group, wire);
}

std::unique_ptr<Contender> MpiCollectives(RawMpi& mpi) {
  return std::make_unique<Theirs>(mpi);
}

}  // namespace zeromini::tools
