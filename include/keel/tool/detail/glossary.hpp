// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_GLOSSARY_HPP
#define KEEL_TOOL_DETAIL_GLOSSARY_HPP

// `wal-recovery explain`: an explanation of every word in the tool's output. tests/tool/explain_test.cpp checks that the list is
// complete: a kind of damage, an error code or a JSON key without an entry fails the test.

#include <keel/tool/detail/command_line.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/json.hpp>
#include <keel/tool/detail/spelling.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::tool::detail {

struct glossary_entry {
    std::string_view word;
    std::string_view meaning;
    std::string_view also = {}; ///< other names of the entry, in the form of plain_word(), with commas between them
};

inline constexpr auto glossary = std::to_array<glossary_entry>({
    // A store and its parts
    {"store",
     "A folder with ordered keys and their values: a log (log/), tables (tables/), two manifests and a few small "
     "files.",
     "data dir"},
    {"store id", "16 random bytes that a store gets when it is made. Every file names them, so that a file of another "
                 "store is noticed."},
    {"log", "The history of what was written, in LSN order, in segments. Each write goes there first. A log without "
            "tables holds messages instead of keys."},
    {"record",
     "One put, erase or message. Each has a checksum of its own. The count of records is the count of the log; records "
     "in tables are counted as table_records.",
     "records,corrupted records"},
    {"LSN",
     "Log sequence number: the place of a record in the write history. The first record has 1, each later one the next "
     "number. An LSN never changes and is never used twice.",
     "last lsn,first lsn,first,last"},
    {"batch",
     "Records that were written together: after a crash all of them are there, or none. In a dump 'whole' is a record "
     "on its own, 'begins', 'inside' and 'ends' are the parts of a longer batch.",
     "whole,begins,inside,ends,begins batch,ends batch"},
    {"put", "A record that sets the value of a key.", "key,value,key hex,value hex,type"},
    {"erase", "A record that removes a key.", "tombstone"},
    {"message", "A record of a log without keys: only a value."},
    {"segment",
     "One file of the log. It has a header at its begin and a copy of it at its end, and records between. The state of "
     "a segment is prepared, active, sealed, rebuilt or missing.",
     "segments,corrupted segments,segment id,id,state"},
    {"used", "How many bytes of a segment hold records. 'of' is the size of its file.", "bytes used,bytes,of,size"},
    {"place", "The position of a segment in the log. A rebuilt segment takes the place of the one that it replaces."},
    {"prepared", "A segment that is ready to be used and holds no records yet.", "spare"},
    {"active", "The segment that new records go to. It has no seal yet."},
    {"sealed",
     "A segment that takes no more records. Its seal in the manifest tells how many records it holds and what their "
     "checksums add up to.",
     "seal"},
    {"rebuilt", "A segment that a repair wrote anew from the records that verify."},
    {"missing", "The manifest lists this file, and the folder does not hold it."},
    {"headers lost",
     "Neither the header of the segment nor its copy verifies. The records themselves may all be whole."},
    {"registered", "Whether the manifest lists the segment."},
    {"aggregate", "The sum of the checksums of all records in a sealed segment. It shows that none was taken away."},
    {"chain",
     "Each segment repeats the sum of the segment before it, so that a segment from elsewhere or an older copy of one "
     "is noticed. BROKEN: it does not follow the one before it.",
     "chain ok"},
    {"void from",
     "A segment can say that from some LSN on nothing counts in the segments before it. What stood there was never "
     "acknowledged, or a repair took it out. JSON names it 'cut'.",
     "cut"},
    {"table",
     "A file of records sorted by key, made by merging segments and other tables. Damage in one is confined to a "
     "block.",
     "tables,table records"},
    {"block", "The unit in which a table is read and verified: a few hundred keys at most."},
    {"level", "Where a table stands in the order of merging. Level 0 holds the newest tables; a table of a deeper "
              "level is older and larger."},
    {"smallest key", "The first key of a table. 'largest key' is its last one.", "smallest,largest,largest key"},
    {"compression", "How the blocks of a table are packed. The tool reads what it was built with."},
    {"checksum", "The function that verifies every record and file of the store. It is chosen when the store is made."},
    {"format", "The number of the layout on the disk. A program reads the formats that it knows, and refuses others."},
    {"manifest", "The list of the segments and tables that make up the store. There are two copies of it, manifest.0 "
                 "and manifest.1."},
    {"edit", "One change of the manifest. Edits are numbered; the number shown is that of the newest."},
    {"branch",
     "A number that tells two histories of one store apart, for instance after a copy of it was written to as well."},
    {"floor", "The LSN up to which records are no longer in the log: they are in tables, or were given up. The log "
              "begins behind it."},
    {"horizon",
     "The last LSN that is known to have been acknowledged: it, and all before it, were reported to a writer as safe. "
     "A record up to the horizon that does not verify is damage. What stands behind it may be a torn tail.",
     "acknowledged,acknowledged lsn"},
    {"notes",
     "A small file with hints about the last run: which records were accepted and which were durable. The store works "
     "without it.",
     "accepted lsn,durable lsn,attempts,this boot,boot"},
    {"durable",
     "Survives a loss of power. What was accepted, but is not durable yet, survives the death of the program alone."},
    {"clean close", "The last program that wrote to the store closed it in order."},
    {"in use",
     "A program has the store open while the tool reads it. The output shows the store as it was a moment ago.",
     "open"},
    {"leftover",
     "A file in the folder that is no part of the store, left by a crash. The next program that writes to the store "
     "removes it.",
     "leftovers"},
    {"page cache",
     "The memory in which the machine keeps what it has read from and written to the disk. It may differ from what the "
     "disk holds.",
     "cache"},
    {"deep",
     "With --deep everything is read past the page cache as well, so that damage on the disk is found while the cache "
     "still has the right bytes.",
     "only past the cache,only in the cache"},
    {"map", "A picture of the segments: one row for each, one letter for so many bytes: h header or footer, # records, "
            "~ torn tail, X damage, . unused."},
    // What is wrong, or is not
    {"status", "What the tool thinks of the store: healthy, damaged, unknown or unreadable."},
    {"healthy",
     "Every record and every file verifies. A torn tail and losses that were declared before do not count as damage."},
    {"damaged",
     "Something does not verify that once was written. The findings say what. 'wal-recovery repair --dry-run' shows "
     "what can be done.",
     "damage"},
    {"unknown", "The end of the log is gone, or a file that may have held the newest records, and nothing says how "
                "many acknowledged records went with it. Put the file back, restore a backup, or accept the loss."},
    {"unreadable", "There is no store in the folder, or it cannot be read. The error says why."},
    {"finding",
     "One thing that was found: its kind, the file, the bytes and the records concerned. 'action' says what was done "
     "about it.",
     "findings,file,offset,length,detail,action,expected,found,kind"},
    {"torn tail",
     "Records at the end of the log that a crash cut short. Nobody was told that they are safe, so nothing is lost. It "
     "is no damage.",
     "torn tail bytes"},
    {"skipped", "Records that verify and do not count: they stand behind a torn record, or their batch is not whole.",
     "skipped records"},
    {"corrupt_record", "An acknowledged record that does not verify, and no other copy of it is left."},
    {"damaged_copy", "A record does not verify here, and another segment has it whole. A repair heals this."},
    {"damaged_filler", "Bytes between records do not verify. No record is missing. A repair heals this."},
    {"missing_records", "Acknowledged LSNs that no file holds, nor any trace of them."},
    {"missing_segment",
     "The manifest lists a segment that the folder does not hold. Put the file back from a copy if there is one."},
    {"wrong_size", "A file is not as long as its header says: it was cut, or something was added."},
    {"wrong_place", "A file stands under the name of another one, or twice."},
    {"header_damaged", "One of the two headers of a segment does not verify. The other one serves; nothing is lost."},
    {"seal_mismatch", "The records of a sealed segment do not add up to what its seal says."},
    {"chain_broken", "A segment does not follow the one that its header names."},
    {"unreadable bytes", "The machine could not read these bytes: the disk reports an error. As a kind of finding it "
                         "is named 'unreadable'."},
    {"unknown_segment", "A segment that is in use, and the manifest does not list it."},
    {"manifest_damaged", "One manifest does not verify, or lags behind. The other one serves; nothing is lost."},
    {"manifest_lost", "Neither manifest is whole. The list was rebuilt from the segments."},
    {"missing_table",
     "The manifest lists a table that the folder does not hold. Its keys have no answer until the file is put back."},
    {"corrupt_block", "A block of a table does not verify. Its keys have no answer until they are written again."},
    {"unknown_extent", "The end of the log is gone, and nothing says how many acknowledged records went with it.",
     "unknown extents,after lsn"},
    {"transient",
     "Bytes that did not verify when they were read first, and did when they were read again. Suspect memory, cables "
     "or the controller.",
     "transient mismatches"},
    {"lost", "Acknowledged records of which no copy verifies.", "lost records,lost lsn ranges"},
    {"healed", "Records that did not verify in one place and were found whole in another. Nothing of them is lost.",
     "healed records"},
    {"declared",
     "Losses that a repair wrote down, so that the store could go on without these records. They are reported until "
     "'wal-recovery accept-loss'.",
     "declared lost,declared lost lsn ranges,declare lost"},
    {"accepted", "Losses that somebody has confirmed with accept-loss. They are no longer reported as open.",
     "accepted lost lsn ranges,accept loss,accepted unknown"},
    {"reported", "An action: the finding is only reported; nothing was changed."},
    {"cut off", "An action, named 'cut': a torn tail was cut off. None of it was ever acknowledged."},
    {"rolled_back", "An action: the records behind the first lost one were given up, too."},
    {"refused", "An action: nothing was changed, because the repair policy refuses."},
    {"degraded", "The store serves, but something needs a person: a loss that is not accepted, or damage."},
    // Repairs
    {"repair",
     "Replaces damaged files with new ones that hold what verifies. The damaged files are kept in quarantine.",
     "repaired"},
    {"strategy", "What a repair does with records that nothing can heal: skip, partial or rollback."},
    {"skip", "A strategy: drop the damaged records and keep all others. Receipts name it skip_corrupted.",
     "skip corrupted"},
    {"partial",
     "A strategy: rebuild from every copy there is, then keep what verifies. Receipts name it partial_reconstruct.",
     "partial reconstruct"},
    {"rollback", "A strategy: go back to the last record before the first lost one, so that what is left is the store "
                 "as it once was."},
    {"refuse", "The repair policy that changes nothing and does not open a store that has lost records."},
    {"dry run", "Shows what a repair would do, and changes nothing.",
     "plan,rebuild,set aside,forget,rewrite tables,rewrite manifest,notice"},
    {"quarantine", "The folder in the store to which repairs move damaged files, with a receipt for each repair.",
     "quarantined,folder,files,time,merged"},
    {"receipt", "A file in quarantine/ that says what a repair found and did. Undo reads it."},
    {"undo", "Takes the last repair back, byte for byte. It works as long as nothing was written since.", "undone"},
    {"unfinished", "A repair that was cut short. The next repair goes on with it."},
    {"merge",
     "Compaction: segments and tables are written into new tables, and records that are no longer needed are left out.",
     "compaction"},
    {"ingested", "Added as a whole table, without the log. All of its records have one LSN."},
    {"older version", "An earlier value of a key that has a newer one. load leaves these out.",
     "older versions left out,loaded"},
    {"no value", "get found no value for the key: it was never written, or it was erased. Exit code 4.", "has value"},
    // Progress
    {"inventory", "The first step of looking at a store: which files there are, and what their headers say."},
    {"scan", "As a step: all records of the log are read and verified. As a command: prints keys in order."},
    {"classify", "The step that tells torn tails, damage and losses apart."},
    {"replay", "The step in which a store reads the records of the log into memory."},
    // Errors
    {"io_error",
     "An error: the machine failed to read, write or sync. Copy the folder to another disk before anything else.",
     "error,code"},
    {"no_space", "An error: the disk, or a quota, is full. Make room, then try again."},
    {"no_permission",
     "An error: the machine does not let this user do it. Run the tool as the user who owns the store."},
    {"not_found", "An error: there is no such file or no store in the folder."},
    {"exists", "An error: it is there already."},
    {"not_regular", "An error: a link, a folder or a device stands where a file should be."},
    {"locked",
     "An error: a program has the store open. Close it first; commands that change nothing do not need that."},
    {"not_a_store", "An error: the folder holds other files and no store."},
    {"wrong_format", "An error: the store was made by a version with another format."},
    {"wrong_policy",
     "An error: the store was made with a checksum or a compression that this program was not built with."},
    {"corruption", "An error: bytes are not what was written. 'wal-recovery validate' shows where."},
    {"too_large", "An error: a key or a record is over its limit. Nothing was written."},
    {"invalid_argument", "An error: the command makes no sense as it is. Nothing was done."},
    {"read_only", "An error: the store can only be read. The message says why."},
    {"closed", "An error: the store was closed."},
    {"cancelled", "An error: the work was cancelled; nothing was changed."},
    {"conflict", "An error: something else was written first. For undo: something was written after the repair."},
    {"outcome_unknown", "An error: the write may or may not be there at the next open. Read it to see."},
    {"recovery_attempts",
     "An error: the store was opened many times in a row, and recovery never came to an end. Validate it first."},
    {"out_of_memory", "An error: the machine refused memory."},
    {"unsupported", "An error: this build or this machine cannot do that."},
    {"crashed", "An error of simulated machines in tests: the machine has stopped."},
    {"no_descriptor", "An error: too many files are open. Raise the limit (ulimit -n), then try again."},
});

/// A word in the form for comparisons: small letters, blanks for '-' and '_'.
[[nodiscard]] inline std::string plain_word(std::string_view word) {
    std::string out;
    for (char const c : word) {
        bool const joins = c == '-' || c == '_' || c == ' ';
        if (joins && (out.empty() || out.back() == ' ')) continue;
        out += joins ? ' ' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    return out;
}

/// All names of an entry, its own first.
[[nodiscard]] inline std::vector<std::string> names_of(glossary_entry const& e) {
    std::vector<std::string> names{plain_word(e.word)};
    for (auto rest = e.also; !rest.empty();) {
        auto const end = rest.find(',');
        names.push_back(plain_word(rest.substr(0, end)));
        rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
    return names;
}

/// The entry for a word; null if there is none. A plural finds its singular.
[[nodiscard]] inline glossary_entry const* find_in_glossary(std::string_view word) {
    auto const wanted = plain_word(word);
    for (auto const& text : {wanted, wanted.ends_with('s') ? wanted.substr(0, wanted.size() - 1) : wanted})
        for (bool const own_name : {true, false})
            for (auto const& e : glossary) {
                auto const names = names_of(e);
                auto const at = std::ranges::find(names, text);
                if (at != names.end() && (at == names.begin()) == own_name) return &e;
            }
    return nullptr;
}

[[nodiscard]] inline int explain(command_line const& line, console& to) {
    std::string word;
    for (auto const& w : line.words) word += (word.empty() ? "" : " ") + w;
    if (word.empty()) {
        std::vector<std::string_view> words;
        for (auto const& e : glossary) words.push_back(e.word);
        std::ranges::sort(words, {}, plain_word);
        if (line.json) {
            write(to.out, json{{"words", words}});
            return exit_done;
        }
        to.out << "'wal-recovery explain WORD' explains one of:\n";
        std::string all = "  ";
        for (auto const w : words) all += std::string{w} + (w == words.back() ? "\n" : ", ");
        to.out << all;
        return exit_done;
    }
    auto const* const found = find_in_glossary(word);
    if (found == nullptr) {
        std::vector<std::string> known;
        for (auto const& e : glossary)
            for (auto& name : names_of(e)) known.push_back(std::move(name));
        auto const meant = did_you_mean(plain_word(word), known);
        to.err << "wal-recovery: '" << printable(word) << "' is no word of the output"
               << (meant.empty() ? "; 'wal-recovery explain' lists all words" : meant) << '\n';
        return exit_unusable;
    }
    if (line.json) {
        write(to.out, json{{"word", found->word}, {"meaning", found->meaning}});
        return exit_done;
    }
    to.out << to.paint(style::bold, found->word) << "\n  " << found->meaning << '\n';
    return exit_done;
}

} // namespace keel::inline v0::tool::detail

#endif
