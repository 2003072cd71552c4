// A caller that ends while its connection lives on, and a program with an entry of its own that gets its PID:
//   node pid-reuse.ts PROGRAM
// Runs a server and an agent of its own, since callers must be in the agent's PID namespace. Prints one JSON line: both PIDs, and what
// the agent answered on that connection.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { realpathSync } from 'node:fs'
import { startWithPid } from '../fakes/own-pids.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { end, startCaller } from './caller.ts'
import { Workload } from './workload.ts'

const [entitled = ''] = process.argv.slice(2)
await using server = await startServer()
const plugins = { WorkloadAttestor: { unix: { plugin_data: { discover_workload_path: true } } } }
await using agent = await startAgent({ server, plugins })
await using admin = new Administrator(server)
const entryFor = (name: string, path: string) =>
  admin.register(`spiffe://example.org/${name}`, agent.id, { selectors: [{ type: 'unix', value: `path:${path}` }] })
await entryFor('entitled', entitled)
await entryFor('node', realpathSync(process.execPath))
// Until the agent knows the entries, it refuses honest callers too.
await using workload = new Workload(agent.socket)
await workload.granted('spiffe://example.org/node')

await using caller = startCaller(agent.socket, 'exit-and-wait')
const { gone } = await caller.answer() as { gone: number }
await caller.ended()
await using impostor = await startWithPid(gone, startEntitled)
caller.go()
console.log(JSON.stringify({ gone, impostor: impostor.pid, answer: await caller.answer() }))

async function startEntitled () {
  const child = spawn(entitled, ['60'], { stdio: 'ignore' })
  const exit = once(child, 'exit')
  return { pid: child.pid as number, async [Symbol.asyncDispose] () { end(child); await exit } }
}
