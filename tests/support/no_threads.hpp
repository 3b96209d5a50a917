// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_NO_THREADS_HPP
#define KEEL_TESTS_SUPPORT_NO_THREADS_HPP

// A process that gets no more threads: while an object of this kind lives, the stack that a new one would have is larger than any address
// space. What the library says then is what it says where a limit of processes or of memory is reached.

#include <cstddef>
#include <stdexcept>

#include <pthread.h>

namespace keel::test {

class no_threads {
public:
    no_threads() {
        if (::pthread_getattr_default_np(&before_) != 0) throw std::runtime_error{"no default attributes"};
        pthread_attr_t huge;
        ::pthread_attr_init(&huge);
        ::pthread_attr_setstacksize(&huge, std::size_t{1} << 56U);
        auto const set = ::pthread_setattr_default_np(&huge);
        ::pthread_attr_destroy(&huge);
        if (set != 0) throw std::runtime_error{"the default stack stays as it is"};
    }
    no_threads(no_threads const&) = delete;
    no_threads& operator=(no_threads const&) = delete;
    ~no_threads() {
        ::pthread_setattr_default_np(&before_);
        ::pthread_attr_destroy(&before_);
    }

private:
    pthread_attr_t before_;
};

} // namespace keel::test

#endif
