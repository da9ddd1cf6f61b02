#ifndef OPENMMKSTEP_FAILINGDEVICE_H_
#define OPENMMKSTEP_FAILINGDEVICE_H_

namespace KStepTests {

/**
 * Lets calls to the device's driver fail, as they do where memory runs out or the device is lost.  The platform's tests
 * implement it by functions of the driver's names, which come before the driver's own.
 */
class FailingDevice {
public:
    enum Calls {All, Allocations};
    static const long long FOREVER = -1;
    /**
     * Begin to count, and let calls fail.
     *
     * @param calls  which ones are counted and may fail
     * @param first  the first one that fails, 0 is the next
     * @param count  how many fail
     */
    static void fail(Calls calls, long long first, long long count);
    /** Let nothing fail, and begin to count. */
    static void work(Calls calls=All) {
        fail(calls, 0, 0);
    }
    /** The number of calls since fail() or work(). */
    static long long getNumCalls();
    /** The number of references that are held to the driver's objects: memory, kernels, programs, queues and contexts. */
    static long long getNumReferences();
};

} // namespace KStepTests

#endif /*OPENMMKSTEP_FAILINGDEVICE_H_*/
