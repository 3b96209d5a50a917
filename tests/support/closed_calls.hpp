// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_CLOSED_CALLS_HPP
#define KEEL_TESTS_SUPPORT_CLOSED_CALLS_HPP

// Every call of a store that may not be used: each must say `closed`, and the same word why. No test assertions: children call this, too.

#include <keel/keel.hpp>

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::test {

class closed_calls {
public:
    /// `why`: what each message has in it.
    explicit closed_calls(std::string_view why) : why_{why} {}

    template <class Result>
    void expect(char const* call, Result const& got) {
        bool const said = !got && got.error().code == errc::closed &&
                          got.error().message.find(why_) != std::string::npos;
        if (!said) wrong_ += std::string{call} + (got ? " was answered; " : ": " + to_string(got.error()) + "; ");
    }
    /// No keys, and its status says why.
    template <class Scan>
    void expect_scan(char const* call, Scan&& scan) {
        for (auto&& seen : scan) {
            static_cast<void>(seen);
            wrong_ += std::string{call} + " gave a key; ";
            break;
        }
        expect(call, scan.status());
        if (auto at = scan.seek("k"); at != scan.end()) wrong_ += std::string{call} + " found a key; ";
    }

    /// All of an engine's. `close_too`: it was not closed here, so closing is an error as well.
    template <class Store>
    void engine(Store& db, bool close_too) {
        expect("put", db.put("k", "v"));
        expect("erase", db.erase("k"));
        expect("erase range", db.erase(range{}));
        write_batch batch;
        batch.put("k", "v");
        expect("write", db.write(batch));
        expect("ingest", db.ingest(std::vector<std::pair<std::string, std::string>>{{"k", "v"}}));
        auto const moment = db.snapshot();
        expect("get", db.get("k"));
        expect("get at", db.get("k", moment));
        std::array<std::string_view, 2> const keys{"k", "l"};
        expect("multi_get", db.multi_get(keys));
        expect_scan("scan", db.scan());
        expect_scan("scan at", db.scan(range{}, moment));
        expect_scan("keys", db.keys());
        expect_scan("keys of prefix", db.keys(prefix{"k"}, moment));
        expect("approximate_size", db.approximate_size(range{}));
        expect("verify", db.verify());
        auto tx = db.begin();
        expect("tx.get", tx.get("k"));
        expect_scan("tx.scan", tx.scan());
        expect("tx.commit", tx.commit());
        expect("tx.commit, durable", db.begin().commit(durable));
        bool ran = false;
        expect("transact", db.transact([&](auto&) { ran = true; }));
        expect("transact, durable", db.transact([&](auto&) { return ran = true; }, durable));
        auto const new_value = [&](auto const&) {
            ran = true;
            return "v";
        };
        expect("update", db.update("k", new_value));
        expect("update, durable", db.update("k", new_value, durable));
        if (ran) wrong_ += "a function ran in a transaction of no store; ";
        expect("compact", db.compact());
        expect("repair_tables", db.repair_tables());
        expect("sync", db.sync());
        expect("resume", db.resume());
        if (close_too) expect("close", db.close());
        db.housekeep();
        if (db.state() != engine_state::closed) wrong_ += "state; ";
        static_cast<void>(db.storage());
        static_cast<void>(db.durable_lsn());
        static_cast<void>(db.recovery());
        if (close_too && db.state_reason().find(why_) == std::string::npos) wrong_ += "state_reason; ";
    }
    /// All of a log's.
    template <class Log>
    void log(Log& wal, bool close_too) {
        expect("append", wal.append("x"));
        expect("append_batch", wal.append_batch({}));
        auto reader = wal.read_from(lsn{1});
        expect("next", reader.next());
        expect("next, waiting", reader.next(std::chrono::milliseconds(1)));
        static_cast<void>(reader.position());
        expect("sync", wal.sync());
        expect("truncate_before", wal.truncate_before(lsn{5}));
        expect("resume", wal.resume());
        if (close_too) expect("close", wal.close());
        wal.housekeep();
        if (wal.state() != engine_state::closed) wrong_ += "state; ";
        static_cast<void>(wal.first_lsn());
        static_cast<void>(wal.last_lsn());
        static_cast<void>(wal.durable_lsn());
        static_cast<void>(wal.recovery());
        if (close_too && wal.state_reason().find(why_) == std::string::npos) wrong_ += "state_reason; ";
    }

    /// What was wrong; empty where nothing was.
    [[nodiscard]] std::string const& wrong() const noexcept { return wrong_; }

private:
    std::string why_;
    std::string wrong_{};
};

} // namespace keel::test

#endif
