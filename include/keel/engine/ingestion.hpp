// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_INGESTION_HPP
#define KEEL_ENGINE_INGESTION_HPP

// Ingestion: sorted data becomes part of a store beside its log. It is written once, into tables, and is added as a whole or not at all.
//
// The steps on the disk: (1) Tables are written under temporary names, each is synced. (2) They get their final names, and the folder is
// synced. A crash up to here leaves files that no manifest names. (3) The log takes one LSN for all of the data and syncs it with
// everything before it (wal/writer.hpp, commit_external). That record alone has no effect. (4) One manifest edit adds the tables to
// level 0, at that LSN. From here on they count. The LSN is already durable, so a power loss cannot free it for another record. (5) Readers
// see the tables, then the LSN becomes visible.

#include <keel/config.hpp>
#include <keel/engine/compactor.hpp>
#include <keel/engine/merge_output.hpp>
#include <keel/engine/operations.hpp>
#include <keel/engine/store_core.hpp>
#include <keel/engine/version_set.hpp>
#include <keel/error.hpp>
#include <keel/format/manifest.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// One call of ingest(). The destructor removes the written tables, unless finish() has put them into the manifest. One thread per object.
template <class Config>
class ingestion {
public:
    using version_set_type = version_set<reading_config<Config>>;
    using core_type = store_core<writing_config<Config>, version_set_type>;
    using table_type = typename version_set_type::table_type;

    ingestion(core_type& core, version_set_type& parts, table_ids& ids)
        : core_{core}, versions_{parts}, ids_{ids}, out_{fs_, core.pool(), ids, 0, format::ingested_lsn, made_} {}
    ingestion(ingestion const&) = delete;
    ingestion& operator=(ingestion const&) = delete;
    ~ingestion() {
        if (!named_in_manifest_) out_.discard();
    }

    /// Adds one key. Keys must come in ascending order, each once. Errors: invalid_argument (wrong order; an empty key), too_large,
    /// no_space, and those of the file system.
    result<void> add(std::string_view key, std::string_view value) {
        KEEL_TRY(check_record(key, value.size()));
        if (any_ && key <= last_)
            return failure(errc::invalid_argument,
                           "keys to be ingested come in order, each once; nothing was ingested: sort them first");
        // The limit is that of a record in the log: merges can carry such a record, and a table's offsets can reach it.
        if (format::frame_bytes(key.size() + value.size()) > core_type::writer_type::batch_bytes_max)
            return failure(
                errc::too_large,
                "a key and its value take " + std::to_string(key.size() + value.size()) +
                    " bytes, more than a record may have; nothing was ingested: choose a larger segment_size");
        last_.assign(key);
        any_ = true;
        return out_.add({.key = key, .value = value, .at = format::ingested_lsn, .tombstone = false}, true);
    }

    /// Makes all of the data part of the store. When this returns its LSN, the data survives power loss. Errors: invalid_argument (no key
    /// was added), and those of a write.
    result<lsn> finish() {
        if (!any_) return failure(errc::invalid_argument, "there is nothing to ingest");
        KEEL_TRY(out_.finish());
        KEEL_TRY(out_.name());
        return core_.writer().commit_external([this](lsn at) { return take_effect(at); });
    }

private:
    result<void> take_effect(lsn at) {
        format::edit_builder edit;
        std::vector<std::shared_ptr<table_type const>> tables;
        for (auto& t : made_) {
            t.lsns = {at, at};
            edit.table(t);
            tables.push_back(versions_.serve(t, core_.pool().paths()));
        }
        edit.next_table_id(ids_.next());
        named_in_manifest_ = true; // perhaps: a commit that fails may still be on the disk, so the files stay
        KEEL_TRY(core_.pool().commit(edit));
        versions_.add_level0(tables);
        return {};
    }

    core_type& core_;
    version_set_type& versions_;
    table_ids& ids_;
    typename Config::file_system fs_{core_.fs()};
    std::vector<format::table_entry> made_{};
    merge_output<merging_config<Config>> out_;
    std::string last_{};
    bool any_ = false;
    bool named_in_manifest_ = false;
};

} // namespace keel::inline v0::detail

#endif
