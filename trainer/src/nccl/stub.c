/* A library with NCCL's C interface that does what a test asks for: each function can succeed, fail, come late, hang, or stay in progress; and a
   communicator can report an asynchronous error. Sums over one rank are the values themselves. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, IN_PROGRESS = 7 };
/* what a function does; the numbers are the tests' too */
enum { SUCCEED = 0, FAIL = 1, LATE = 2, HANG = 3, STAY_IN_PROGRESS = 4, HANG_UNTIL_ABORT = 5 };

typedef struct { int function, does, code, milliseconds; } Order;
static Order orders[16];
static int num_orders, version = 22809, async_code, aborted, destroyed, calls_in_progress;
static char last_error[256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
typedef struct { int rank; } Comm;
static Comm only;

/* ---- for the test ---- */

enum { INIT = 0, ALL_REDUCE = 1, ALL_GATHER = 2, ABORT = 3, ASYNC = 4, DESTROY = 5, UNIQUE_ID = 6 };

void stub_order(int function, int does, int code, int milliseconds) {
    pthread_mutex_lock(&lock);
    orders[num_orders++] = (Order){function, does, code, milliseconds};
    pthread_mutex_unlock(&lock);
}
void stub_version(int now) { version = now; }
void stub_async(int code) { __atomic_store_n(&async_code, code, __ATOMIC_SEQ_CST); }
int stub_aborted(void) { return __atomic_load_n(&aborted, __ATOMIC_SEQ_CST); }
int stub_destroyed(void) { return __atomic_load_n(&destroyed, __ATOMIC_SEQ_CST); }

/* ---- NCCL's ---- */

static int obey(int function) {
    Order order = {function, SUCCEED, 0, 0};
    pthread_mutex_lock(&lock);
    for (int i = 0; i < num_orders; i++) {
        if (orders[i].function == function) order = orders[i];
    }
    pthread_mutex_unlock(&lock);
    switch (order.does) {
        case FAIL:
            snprintf(last_error, sizeof last_error, "stub: ordered to fail with %d", order.code);
            return order.code;
        case LATE: usleep(order.milliseconds * 1000); return SUCCESS;
        case HANG: for (;;) pause();
        case HANG_UNTIL_ABORT: while (!stub_aborted()) usleep(1000); return 6;
        case STAY_IN_PROGRESS:
            __atomic_store_n(&calls_in_progress, order.milliseconds ? order.milliseconds : 1 << 30, __ATOMIC_SEQ_CST);
            return IN_PROGRESS;
        default: return SUCCESS;
    }
}

int ncclGetVersion(int *to) { *to = version; return SUCCESS; }
int ncclGetUniqueId(char *id) { memset(id, 42, 128); return obey(UNIQUE_ID); }
typedef struct { char bytes[128]; } Id;
int ncclCommInitRankConfig(void **comm, int num_ranks, Id id, int rank, void *config) {
    unsigned magic;
    int blocking;
    memcpy(&magic, (char *)config + 8, 4);
    memcpy(&blocking, (char *)config + 16, 4);
    if (magic != 0xcafebeef || blocking != 0 || id.bytes[127] != 42 || rank >= num_ranks) return 4;
    int code = obey(INIT);
    if (code == SUCCESS || code == IN_PROGRESS) *comm = &only;
    return code;
}
int ncclCommGetAsyncError(void *comm, int *state) {
    /* each question brings what is in progress nearer to its end */
    int left = __atomic_load_n(&calls_in_progress, __ATOMIC_SEQ_CST);
    if (left > 0) __atomic_store_n(&calls_in_progress, left - 1, __ATOMIC_SEQ_CST);
    int code = __atomic_load_n(&async_code, __ATOMIC_SEQ_CST);
    *state = code ? code : left > 0 ? IN_PROGRESS : SUCCESS;
    return comm ? obey(ASYNC) : 4;
}
int ncclCommAbort(void *comm) {
    __atomic_store_n(&aborted, 1, __ATOMIC_SEQ_CST);
    (void)comm;
    return obey(ABORT);
}
/* as NCCL's: it goes on by itself for some questions, and until then the communicator refuses to be destroyed */
int ncclCommFinalize(void *comm) {
    (void)comm;
    __atomic_store_n(&calls_in_progress, 3, __ATOMIC_SEQ_CST);
    return IN_PROGRESS;
}
int ncclCommDestroy(void *comm) {
    (void)comm;
    if (__atomic_load_n(&calls_in_progress, __ATOMIC_SEQ_CST) > 0) return 4;
    __atomic_store_n(&destroyed, 1, __ATOMIC_SEQ_CST);
    return obey(DESTROY);
}
int ncclAllReduce(const void *from, void *to, size_t len, int type, int op, void *comm, void *stream) {
    (void)stream;
    if (!comm || op != 0 || (type != 7 && type != 9)) return 4;
    if (from != to) memcpy(to, from, len * (type == 7 ? 4 : 2));
    return obey(ALL_REDUCE);
}
int ncclAllGather(const void *from, void *to, size_t len, int type, void *comm, void *stream) {
    (void)stream;
    if (!comm) return 4;
    memcpy(to, from, len * (type == 7 ? 4 : 2));
    return obey(ALL_GATHER);
}
const char *ncclGetErrorString(int code) { return code == 6 ? "remote process exited or there was a network error" : code == 2 ? "unhandled system error" : "some error"; }
const char *ncclGetLastError(void *comm) { (void)comm; return last_error; }
