// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_SHA3_CONTEXT_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_SHA3_CONTEXT_HPP

// libcrypto's SHA3-256 contexts. To make one and look the algorithm up costs as much as the sum of a record, so each
// thread keeps the few it used last. Looking up is what can fail (no memory, no such algorithm in this libcrypto); a
// context that was made does not.

#include <keel/types.hpp>

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <utility>

namespace keel::inline v0::checksum::detail {

struct sha3_context_free {
    void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};
using sha3_context = std::unique_ptr<EVP_MD_CTX, sha3_context_free>;

/// The contexts a thread keeps.
class sha3_contexts {
public:
    sha3_contexts() = default;
    sha3_contexts(sha3_contexts const&) = delete;
    sha3_contexts& operator=(sha3_contexts const&) = delete;
    ~sha3_contexts() { gone() = true; }

    /// True once the thread has destroyed its own: an object that outlives it, a global one say, must not look for it.
    [[nodiscard]] static bool& gone() noexcept {
        static thread_local bool gone = false;
        return gone;
    }
    [[nodiscard]] static sha3_contexts& of_this_thread() noexcept {
        static thread_local sha3_contexts contexts;
        return contexts;
    }

    [[nodiscard]] sha3_context take() noexcept { return kept_ == 0 ? nullptr : std::move(contexts_[--kept_]); }
    void give_back(sha3_context context) noexcept {
        if (kept_ < contexts_.size()) contexts_[kept_++] = std::move(context);
    }

private:
    std::array<sha3_context, 4> contexts_;
    std::size_t kept_ = 0;
};

/// A context that has SHA3-256 looked up. Throws std::bad_alloc where libcrypto has none to give.
[[nodiscard]] inline sha3_context take_sha3_context() {
    if (!sha3_contexts::gone()) {
        if (auto kept = sha3_contexts::of_this_thread().take()) return kept;
    }
    sha3_context made{EVP_MD_CTX_new()};
    if (!made || EVP_DigestInit_ex(made.get(), EVP_sha3_256(), nullptr) != 1) throw std::bad_alloc{};
    return made;
}

inline void give_back(sha3_context context) noexcept {
    if (context && !sha3_contexts::gone()) sha3_contexts::of_this_thread().give_back(std::move(context));
}

/// A sum that could not be taken must not be taken for one that was.
inline void require_sha3(int done) noexcept {
    if (done != 1) std::terminate();
}

inline void start_sha3_run(EVP_MD_CTX& context) noexcept {
    require_sha3(EVP_DigestInit_ex(&context, nullptr, nullptr));
}

inline void continue_sha3_run(EVP_MD_CTX& context, byte_view bytes) noexcept {
    require_sha3(EVP_DigestUpdate(&context, bytes.data(), bytes.size()));
}

inline void copy_sha3_run(EVP_MD_CTX& to, EVP_MD_CTX const& from) {
    if (EVP_MD_CTX_copy_ex(&to, &from) != 1) throw std::bad_alloc{};
}

/// The first 8 bytes of the digest, little-endian. The context may start another run.
[[nodiscard]] inline std::uint64_t end_sha3_run(EVP_MD_CTX& context) noexcept {
    std::array<unsigned char, 32> digest{};
    require_sha3(EVP_DigestFinal_ex(&context, digest.data(), nullptr));
    std::uint64_t sum = 0;
    for (std::size_t i = 8; i-- > 0;) sum = sum << 8 | digest[i];
    return sum;
}

} // namespace keel::inline v0::checksum::detail

#endif
