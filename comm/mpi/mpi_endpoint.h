// One rank of a group over MPI.

#ifndef ZEROMINI_COMM_MPI_MPI_ENDPOINT_H_
#define ZEROMINI_COMM_MPI_MPI_ENDPOINT_H_

#include <mpi.h>

#include <memory>
#include <utility>

#include "comm/endpoint.h"
#include "comm/mpi/mpi_link.h"

namespace zeromini {

// Point-to-point messages and shared memory only: a library collective that
// blocks cannot be given up when its deadline passes.
class MpiEndpoint : public Endpoint {
 public:
  explicit MpiEndpoint(std::unique_ptr<MpiLink> link)
      : link_(std::move(link)) {}

  int rank() const override { return link_->rank(); }
  int size() const override { return link_->size(); }
  const char* backend() const override { return "mpi"; }
  absl::Duration timeout() const override { return link_->watch().timeout(); }
  LevelTraffic level_traffic() const override {
    return link_->counter().Read();
  }

  absl::Status Run(const Call& call) override;
  absl::StatusOr<std::shared_ptr<Endpoint>> Split(int color, int key) override;
  absl::Status Free() override { return link_->Free(); }
  void Break(const absl::Status& why) override { link_->watch().Break(why); }
  absl::Status error() const override { return link_->watch().error(); }

 private:
  absl::Status Transfer(const Call& call);
  absl::Status AllReduce(const Call& call);

  const std::unique_ptr<MpiLink> link_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_ENDPOINT_H_
