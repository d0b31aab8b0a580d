// Faults on demand: named points of the program at which a test makes it die, freeze or fail.
//
//   spec:  ACTION@POINT[:N][,rank=R]      the N-th time (1) that a process passes the point; on rank R only, else on
//   all
//
//   action  kill   SIGKILL: the process is gone            stop  SIGSTOP: it is there and does nothing
//           term, int, hup, usr1, usr2                     fail  what it is about to do fails
//                  SIGTERM …: it is asked to stop          slow  what it is about to do takes 6 s longer
//   point   index        before a split's shards are opened for training, or images are listed to be packed
//           shard        before the index of each of its shards is read
//           load         before a checkpoint is read
//           start        before the first step of training
//           step         before each step of training
//           loss         after its backward; fail makes the loss NaN
//           evaluate     before each batch of an evaluation
//           pack         after each portion of images packed
//           file-create, file-write, file-sync, file-rename, folder-sync   before that operation on a file that is
//                        written whole or not at all; fail is a full disk. A run writes its recipe first (one create,
//                        one write, one sync, one rename), then checkpoints (create, write … write, sync, rename)
//           file-damage  once for each file-write; fail makes the disk keep a bit of it other than it was, untold
//           prune        before each old checkpoint that is removed
//           end          when a command's work is done, before MPI ends
//
// Unarmed, a point costs one load. Points may be passed by any thread.
#pragma once

#include <string>

namespace qm {

/// Arms one fault for this process. Throws ConfigError quoting a spec that cannot be understood.
void arm_fault(const std::string& spec, int rank);

/// Passes the point: kills, stops or signals this process where that is armed. Whether what follows is to fail.
bool fault_point(const char* point);

}  // namespace qm
