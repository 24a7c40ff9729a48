#include "comm/mpi/mpi_endpoint.h"

#include <vector>

#include "comm/mpi/mpi_all_gather.h"
#include "comm/mpi/mpi_all_to_all.h"
#include "comm/mpi/mpi_reduce_scatter.h"
#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::Status MpiEndpoint::Run(const Call& call) {
  ZEROMINI_RETURN_IF_ERROR(link_->Greet(call.signature));
  if (call.signature.collective == Collective::kAllToAllV) {
    return MpiAllToAll(*link_, call).Run();
  }
  if (call.signature.count == 0) return absl::OkStatus();
  return Transfer(call);
}

absl::Status MpiEndpoint::Transfer(const Call& call) {
  const int64_t count = call.signature.count;
  Segments segments = Segments::Equal(size(), count, size() * count);
  if (call.signature.collective == Collective::kBroadcast) {
    segments = Segments::Whole(size(), call.signature.root, count);
  }
  segments.SetChunk(link_->ChunkElements(call.dtype()));
  switch (call.signature.collective) {
    case Collective::kReduceScatter:
      return MpiReduceScatter(*link_, call, segments, call.in, call.out).Run();
    case Collective::kAllGather:
    case Collective::kBroadcast:
      return MpiAllGather(*link_, call, segments, call.in, call.out).Run();
    case Collective::kAllReduce:
      return AllReduce(call);
    case Collective::kAllToAllV:
    case Collective::kBarrier:
    case Collective::kSplit:
      break;
  }
  return absl::OkStatus();
}

absl::Status MpiEndpoint::AllReduce(const Call& call) {
  const int64_t count = call.signature.count;
  Segments segments =
      Segments::Equal(size(), (count + size() - 1) / size(), count);
  segments.SetChunk(link_->ChunkElements(call.dtype()));
  char* own = static_cast<char*>(call.out) +
              segments.begin(rank()) * SizeOf(call.dtype());
  ZEROMINI_RETURN_IF_ERROR(
      MpiReduceScatter(*link_, call, segments, call.in, own).Run());
  return MpiAllGather(*link_, call, segments, own, call.out).Run();
}

absl::StatusOr<std::shared_ptr<Endpoint>> MpiEndpoint::Split(int color,
                                                             int key) {
  Signature signature;
  signature.collective = Collective::kSplit;
  // What follows blocks, but only for ranks that are known to be here.
  ZEROMINI_RETURN_IF_ERROR(link_->Greet(signature));
  MPI_Comm child = MPI_COMM_NULL;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_split(link_->comm(), color < 0 ? MPI_UNDEFINED : color,
                             key, &child),
              "MPI_Comm_split"));
  if (child == MPI_COMM_NULL) return nullptr;
  MPI_Comm_set_errhandler(child, MPI_ERRORS_RETURN);
  struct Origin {
    int member;
    int host;
  };
  MpiSetup setup(timeout(), link_->log());
  setup.ListenTo(link_->shared_watch());
  ZEROMINI_ASSIGN_OR_RETURN(
      const std::vector<Origin> origins,
      setup.AllGather(child, Origin{link_->members()[rank()], link_->host()}));
  std::vector<int> members;
  std::vector<int> colors;
  for (const Origin& origin : origins) {
    members.push_back(origin.member);
    colors.push_back(origin.host);
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      auto link, MpiLink::Create(setup, child, std::move(members), colors,
                                 link_->shared_watch()));
  return std::make_shared<MpiEndpoint>(std::move(link));
}

}  // namespace zeromini
