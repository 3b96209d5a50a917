// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPRESSION_ZSTD_HPP
#define KEEL_POLICY_COMPRESSION_ZSTD_HPP

// Zstandard (RFC 8878), by libzstd. keel.hpp does not include this header. A program that includes it must link libzstd.
//
// A context of libzstd takes a hundred kilobytes or more, and to make one costs more than to compress a block. So each thread keeps one
// context for compression and one for decompression, from the first block on.

#include <keel/policy/compression/concept.hpp>

#include <zstd.h>

#include <memory>
#include <new>
#include <type_traits>

namespace keel::inline v0::compression {

namespace detail {

/// This thread's context of one kind. Throws std::bad_alloc if there is no memory for it.
template <auto Make, auto Free>
class zstd_context {
public:
    using type = std::remove_pointer_t<decltype(Make())>;

    zstd_context() {
        if (gone()) own_ = make();
        else if (!kept().context) kept().context = make();
    }
    [[nodiscard]] type* get() const noexcept { return own_ ? own_.get() : kept().context.get(); }

private:
    struct deleter {
        void operator()(type* context) const noexcept { Free(context); }
    };
    using handle = std::unique_ptr<type, deleter>;
    struct pool {
        handle context{};
        pool() = default;
        pool(pool const&) = delete;
        pool& operator=(pool const&) = delete;
        ~pool() { gone() = true; }
    };
    [[nodiscard]] static pool& kept() noexcept {
        static thread_local pool of_this_thread;
        return of_this_thread;
    }
    /// True once the thread has destroyed its context. A store that outlives it, for example a global one, makes a context for each block.
    [[nodiscard]] static bool& gone() noexcept {
        static thread_local bool gone = false;
        return gone;
    }
    [[nodiscard]] static handle make() {
        handle made{Make()};
        if (!made) throw std::bad_alloc{};
        return made;
    }

    handle own_{};
};

} // namespace detail

/// A model of compression_policy. `Level`: from 1 (fast) to 22 (small). Blocks of every level are read in the same way.
template <int Level = 1>
struct zstd {
    static_assert(Level >= 1 && Level <= 22, "keel: compression::zstd<Level> takes levels from 1 to 22");
    /// A member that compression_policy describes.
    /// @{
    static constexpr std::string_view name = "zstd";
    static constexpr std::uint8_t id = 1;
    [[nodiscard]] static constexpr bool reads(std::uint8_t of) noexcept { return of == 0 || of == id; }

    [[nodiscard]] static bool compress(byte_view in, std::vector<std::byte>& out) {
        if (in.empty()) return false;
        out.resize(worth_bytes_max(in.size()));
        detail::zstd_context<&ZSTD_createCCtx, &ZSTD_freeCCtx> const context;
        auto const bytes = ZSTD_compressCCtx(context.get(), out.data(), out.size(), in.data(), in.size(), Level);
        bool const fits = ZSTD_isError(bytes) == 0;
        out.resize(fits ? bytes : 0);
        return fits;
    }
    [[nodiscard]] static bool decompress(std::uint8_t of, byte_view in, byte_span out) {
        if (of != id || out.empty() || !is_one_frame(in, out.size())) return false;
        detail::zstd_context<&ZSTD_createDCtx, &ZSTD_freeDCtx> const context;
        return ZSTD_decompressDCtx(context.get(), out.data(), out.size(), in.data(), in.size()) == out.size();
    }
    /// @}

private:
    /// Refuses several frames, and frames of older formats. libzstd accepts both and decodes the older ones with rarely reviewed code.
    [[nodiscard]] static bool is_one_frame(byte_view in, std::size_t raw) noexcept {
        if (in.size() < 4) return false;
        for (std::size_t i = 0; i < 4; ++i)
            if (std::to_integer<unsigned>(in[i]) != (ZSTD_MAGICNUMBER >> 8 * i & 0xFFU)) return false;
        return ZSTD_getFrameContentSize(in.data(), in.size()) == raw &&
               ZSTD_findFrameCompressedSize(in.data(), in.size()) == in.size();
    }
};

static_assert(compression_policy<zstd<>>);

} // namespace keel::inline v0::compression

#endif
