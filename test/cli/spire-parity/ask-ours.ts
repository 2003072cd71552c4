import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startTestAgent } from '../../fakes/agent.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { eventually } from '../../fakes/eventually.ts'
import { runAssay } from '../../fakes/run-assay.ts'
import { startTestServer } from '../../fakes/server.ts'
import { Administrator } from '../../interop/administrator.ts'
import { agentLines } from './agent-lines.ts'
import { serverLines } from './command-lines.ts'
import type { Told } from './normalise.ts'
import { runAgentLines, runServerLines } from './run-lines.ts'

/** What our server and our commands say to the lines for `spire-server`. */
export async function askServer (): Promise<readonly Told[]> {
  await using server = await startTestServer({ log: debugLog() })
  const { socketPath } = server.config
  const run = (words: readonly string[], input: string) => runAssay(words, { program: 'spire-server', input })
  return await runServerLines({ server, socketPath, run }, serverLines)
}

/** The same of our agent, to those for `spire-agent`. */
export async function askAgent (): Promise<readonly Told[]> {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-admin-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const adminSocketPath = join(folder, 'admin.sock')
  const server = scope.use(await startTestServer())
  const agent = scope.use(await startTestAgent(server, { config: { adminSocketPath }, log: debugLog() }))
  const admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  await admin.register('spiffe://example.org/parity', `spiffe://example.org${agent.path}`)
  const { socketPath } = agent.config
  const run = (words: readonly string[], input = '') => runAssay(words, { program: 'spire-agent', input })
  await eventually('the identity', async () => (await run(['api', 'fetch', 'x509', '-socketPath', socketPath])).code === 0)
  return await runAgentLines({ socketPath, adminSocketPath, run }, agentLines)
}

/** As the real ones are configured. */
function debugLog () {
  const { log } = capturedLog()
  log.level = 'debug'
  return log
}
