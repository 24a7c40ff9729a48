#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "comm/enqueue.h"
#include "tests/support/delayed_stream.h"
#include "tests/support/no_more_threads.h"
#include "tests/support/status_matchers.h"
#include "tests/support/suspended.h"
#include "zeromini/stream.h"

namespace zeromini {
namespace {

using ::testing::HasSubstr;

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

// Holds a stream until released.
class Gate {
 public:
  std::function<absl::Status()> Task() {
    return [this] {
      while (!open_) std::this_thread::yield();
      return absl::OkStatus();
    };
  }
  void Open() { open_ = true; }

 private:
  std::atomic<bool> open_ = false;
};

// Returns when the worker is, most likely, waiting for `event`.
void WaitInside(HostStream& stream, std::shared_ptr<HostEvent> event) {
  auto reached = stream.Record();
  stream.WaitFor(std::move(event));
  EXPECT_OK(reached->Wait(Soon()));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

// As when the clock steps back while somebody waits: what was "in 50 ms" when
// the deadline was computed is an hour away. Overrides libc's.
std::atomic<time_t> real_clock_ahead = 0;
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const long code = syscall(SYS_clock_gettime, clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec += real_clock_ahead;
  return static_cast<int>(code);
}

TEST(HostStreamTest, AWaitEndsInTimeThoughTheClockStepsBack) {
  Gate gate;
  auto stream = HostStream::Create("test");
  stream->Enqueue(gate.Task());
  auto event = stream->Record();
  // Opens the gate, late, for a wait that does not end.
  std::atomic<bool> ended = false;
  std::thread guard([&] {
    for (int i = 0; i < 500 && !ended; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    gate.Open();
  });
  real_clock_ahead = 3600;
  const absl::Status status = event->Wait(absl::Now() + absl::Milliseconds(50));
  real_clock_ahead = 0;
  ended = true;
  guard.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(HostStreamTest, ADeadlineDoesNotPassWhileTheProcessIsSuspended) {
  Gate gate;
  auto stream = HostStream::Create("test");
  stream->Enqueue(gate.Task());
  auto event = stream->Record();
  absl::Status status;
  std::thread waiter(
      [&] { status = event->Wait(absl::Now() + absl::Seconds(1)); });
  SuspendThisProcessFor(std::chrono::milliseconds(1500));
  gate.Open();
  waiter.join();
  EXPECT_OK(status);
}

TEST(HostStreamTest, WithoutAThreadTheStreamSaysSoInsteadOfEndingTheProcess) {
  NoMoreThreads none;
  auto stream = HostStream::Create("worker");
  bool ran = false;
  stream->Enqueue([&] {
    ran = true;
    return absl::OkStatus();
  });
  stream->WaitFor(stream->Record());
  EXPECT_THAT(stream->Record()->Wait(Soon()),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("no thread can be made for the stream "
                                 "'worker': Resource temporarily")));
  EXPECT_FALSE(ran);
}

TEST(HostStreamTest, RunsTasksInTheOrderTheyWereEnqueued) {
  auto stream = HostStream::Create("a-name-longer-than-the-kernel-allows");
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) {
    stream->Enqueue([&order, i] {
      order.push_back(i);
      return absl::OkStatus();
    });
  }
  EXPECT_OK(stream->Record()->Wait(Soon()));
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(HostStreamTest, AnEventIsDoneOnlyAfterTheTasksBeforeIt) {
  Gate gate;
  auto stream = HostStream::Create("test");
  stream->Enqueue(gate.Task());
  auto event = stream->Record();
  EXPECT_FALSE(event->done());
  EXPECT_THAT(event->Wait(absl::Now() + absl::Milliseconds(5)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  gate.Open();
  EXPECT_OK(event->Wait(absl::InfiniteFuture()));
  EXPECT_TRUE(event->done());
}

TEST(HostStreamTest, TheFirstErrorStaysAndLaterTasksAreDropped) {
  auto stream = HostStream::Create("test");
  std::atomic<bool> ran = false;
  auto before = stream->Record();
  stream->Enqueue([] { return absl::DataLossError("first"); });
  stream->Enqueue([&ran] {
    ran = true;
    return absl::InternalError("second");
  });
  EXPECT_OK(before->Wait(Soon()));
  const auto first = StatusIs(absl::StatusCode::kDataLoss, "first");
  EXPECT_THAT(stream->Record()->Wait(Soon()), first);
  stream->Poison(absl::AbortedError("third"));
  stream->Enqueue([&ran] {
    ran = true;
    return absl::OkStatus();
  });
  EXPECT_THAT(stream->Record()->Wait(Soon()), first);
  EXPECT_FALSE(ran);
}

TEST(HostStreamTest, PoisonDropsWhatIsQueuedButNotWhatRuns) {
  Gate gate;
  std::atomic<bool> started = false;
  std::atomic<bool> ran = false;
  auto stream = HostStream::Create("test");
  stream->Enqueue([&, hold = gate.Task()] {
    started = true;
    return hold();
  });
  stream->Enqueue([&ran] {
    ran = true;
    return absl::OkStatus();
  });
  auto event = stream->Record();
  while (!started) std::this_thread::yield();
  stream->Poison(absl::AbortedError("stop"));
  EXPECT_FALSE(event->done()) << "the first task still runs";
  gate.Open();
  EXPECT_THAT(event->Wait(Soon()), StatusIs(absl::StatusCode::kAborted));
  EXPECT_FALSE(ran);
}

TEST(HostStreamTest, WaitsForAnotherStreamAndInheritsItsError) {
  Gate gate;
  auto first = HostStream::Create("first");
  auto second = HostStream::Create("second");
  first->Enqueue(gate.Task());
  std::atomic<bool> ran = false;
  second->WaitFor(first->Record());
  second->Enqueue([&ran] {
    ran = true;
    return absl::OkStatus();
  });
  auto event = second->Record();
  EXPECT_FALSE(event->done());
  EXPECT_FALSE(ran);
  // Carries the very code that a wait uses for "not yet".
  first->Poison(absl::DeadlineExceededError("a peer did not come"));
  gate.Open();
  second->WaitFor(first->Record());
  EXPECT_THAT(
      second->Record()->Wait(Soon()),
      StatusIs(absl::StatusCode::kDeadlineExceeded, "a peer did not come"));
}

TEST(HostStreamTest, PoisonInterruptsAWaitForAnEventThatNeverComes) {
  Gate gate;
  auto never = HostStream::Create("never");
  never->Enqueue(gate.Task());
  auto stream = HostStream::Create("test");
  WaitInside(*stream, never->Record());
  auto event = stream->Record();
  stream->Poison(absl::AbortedError("stop"));
  EXPECT_THAT(event->Wait(Soon()), StatusIs(absl::StatusCode::kAborted));
  gate.Open();
}

TEST(HostStreamTest, DestroyingAStreamFinishesItsEventsEvenWhileItWaits) {
  Gate gate;
  auto never = HostStream::Create("never");
  never->Enqueue(gate.Task());
  auto stream = HostStream::Create("test");
  WaitInside(*stream, never->Record());
  auto event = stream->Record();
  stream.reset();
  EXPECT_THAT(event->Wait(Soon()), StatusIs(absl::StatusCode::kCancelled));
  gate.Open();
}

TEST(HostStreamTest, DroppedTasksMayUseTheStreamWhenTheyAreDestroyed) {
  struct Recorder {
    HostStream* stream;
    ~Recorder() { stream->Record(); }
  };
  auto stream = HostStream::Create("test");
  stream->Poison(absl::AbortedError("stop"));
  stream->Enqueue([held = std::make_shared<Recorder>(Recorder{stream.get()})] {
    return absl::OkStatus();
  });
  EXPECT_THAT(stream->Record()->Wait(Soon()),
              StatusIs(absl::StatusCode::kAborted));
}

TEST(EnqueueTest, TheNullStreamRunsTheTaskHere) {
  const auto self = std::this_thread::get_id();
  EXPECT_THAT(EnqueueOn(nullptr,
                        [self] {
                          EXPECT_EQ(std::this_thread::get_id(), self);
                          return absl::NotFoundError("x");
                        }),
              StatusIs(absl::StatusCode::kNotFound));
  auto stream = HostStream::Create("test");
  EXPECT_THAT(RunOnAndWait(stream.get(),
                           [self] {
                             EXPECT_NE(std::this_thread::get_id(), self);
                             return absl::NotFoundError("x");
                           }),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(DelayedStreamTest, KeepsTheOrder) {
  DelayedStream stream(5, std::chrono::microseconds(2000));
  std::vector<int> order;
  for (int i = 0; i < 20; ++i) {
    stream.Enqueue([&order, i] {
      order.push_back(i);
      return absl::OkStatus();
    });
  }
  EXPECT_OK(stream.Record()->Wait(Soon()));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(order[i], i);
}

int64_t Wakes() {  // Of this thread, so far.
  rusage usage = {};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

// A stream waits for a caller's event in many short waits.
TEST(HostStreamTest, AShortWaitForAnEventWakesOnce) {
  constexpr int kWaits = 20;
  const auto stream = HostStream::Create("waits");
  std::promise<void> finish;
  stream->Enqueue([done = finish.get_future().share()] {
    done.wait();
    return absl::OkStatus();
  });
  const auto event = stream->Record();
  const int64_t before = Wakes();
  for (int i = 0; i < kWaits; ++i) {
    EXPECT_FALSE(event->Wait(absl::Now() + absl::Milliseconds(10)).ok());
  }
  EXPECT_LE(Wakes() - before, 2 * kWaits);
  finish.set_value();
}

TEST(HostStreamDeathTest, AStreamOfAnotherDeviceIsNotTakenForOne) {
  auto stream = HostStream::Create("test");
  Stream foreign = stream->handle();
  EXPECT_EQ(HostStream::From(foreign), stream.get());
  foreign.device = DeviceKind::kCuda;
  EXPECT_DEATH(HostStream::From(foreign), "broken invariant");
  EXPECT_DEATH(HostStream::From(Stream{nullptr, DeviceKind::kCuda}),
               "broken invariant");
}

}  // namespace
}  // namespace zeromini
