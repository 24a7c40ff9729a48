/* Streams of c.h. */

#define _POSIX_C_SOURCE 200809L
#include "c_refusals.h"

static int Count(void* context) {
  ++*(int*)context;
  return 0;
}
static int Refuse(void* context) {
  (void)context;
  return 5;
}

static void StreamsRunTasksInOrderAndKeepTheFirstError(void) {
  zeromini_stream* stream = zeromini_stream_create("test");
  char* failure = NULL;
  int count = 0;
  zeromini_stream_enqueue(stream, Count, &count);
  zeromini_stream_enqueue(stream, Count, &count);
  ACCEPTED(zeromini_stream_wait(stream, 30, &error));
  EXPECT(count == 2);
  zeromini_stream_enqueue(stream, Refuse, NULL);
  zeromini_stream_enqueue(stream, Count, &count);
  EXPECT(zeromini_stream_wait(stream, 30, &failure) == ZEROMINI_UNKNOWN);
  EXPECT(strstr(failure, "5") != NULL && count == 2);
  zeromini_free(failure);
  zeromini_stream_destroy(stream);
}

/* Runs long enough for the others to be queued behind it. */
static int CountLate(void* context) {
  const struct timespec pause = {0, 50000000};
  nanosleep(&pause, NULL);
  return Count(context);
}

static void DestroyingAStreamRunsWhatIsQueued(void) {
  zeromini_stream* stream = zeromini_stream_create("test");
  int count = 0;
  zeromini_stream_enqueue(stream, CountLate, &count);
  zeromini_stream_enqueue(stream, Count, &count);
  zeromini_stream_enqueue(stream, Count, &count);
  zeromini_stream_destroy(stream);
  EXPECT(count == 3);
}

static const NamedTest kTests[] = {
    TEST(StreamsRunTasksInOrderAndKeepTheFirstError),
    TEST(DestroyingAStreamRunsWhatIsQueued),
};

int main(void) { return RunAll(kTests, sizeof kTests / sizeof *kTests); }
