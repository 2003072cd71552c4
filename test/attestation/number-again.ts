// A process that has a connection ends, and another one that has one too is given its number:
//   node number-again.ts
// Prints one JSON line: both PIDs, and what a look at either connection's holder says.
import { findHolders } from '../../src/attestation/socket/find-holders.ts'
import { openSocketDiagnosis } from '../../src/attestation/socket/socket-diagnosis.ts'
import { pinHolder, type SocketHolder } from '../../src/attestation/socket/socket-holder.ts'
import { startWithPid } from '../fakes/own-pids.ts'
import { Shell } from '../fakes/shell.ts'
import { connect, listen } from './connections.ts'

const { signal } = new AbortController()
using sockets = openSocketDiagnosis()
await using server = await listen('127.0.0.1')
const shell = await Shell.start()
const connection = await connect(shell, server)
const socket = sockets.connection(connection.source, connection.destination)!
using found = await findHolders(socket, signal)
const [holder] = found.holders
const before = outcomeOf(holder)
await shell.end()
await using next = await startWithPid(shell.pid, () => Shell.start())
const again = await connect(next, server)
const link = `socket:[${sockets.connection(again.source, again.destination)?.inode}]`
const after = outcomeOf(holder)
using successor = pinHolder({ pid: next.pid, fd: '3' }, link)
console.log(JSON.stringify({
  pids: [shell.pid, next.pid], before, after, successor: outcomeOf(successor),
  hasOldSocket: pinHolder({ pid: next.pid, fd: '3' }, `socket:[${socket.inode}]`) !== undefined
}))
again.accepted.destroy()
connection.accepted.destroy()

function outcomeOf (holder: SocketHolder | undefined): string | { readonly code: string, readonly message: string } {
  try {
    holder!.check()
    return 'is there'
  } catch (error) {
    const { code, message } = error as { readonly code: string, readonly message: string }
    return { code, message }
  }
}
