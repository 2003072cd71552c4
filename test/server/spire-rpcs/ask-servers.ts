import { openUnixChannel } from '../../../src/rpc/channel.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { startTestServer } from '../../fakes/server.ts'
import { startSpireServer } from '../../fakes/spire.ts'
import { allSteps } from './all-steps.ts'
import { runSteps, type Told } from './step.ts'

/** Signing is limited on both sides, attestation on neither. */
const ratelimit = { attestation: false, signing: true }

export async function askOurs (): Promise<readonly Told[]> {
  const { log } = capturedLog()
  // As the real one is configured.
  log.level = 'debug'
  await using server = await startTestServer({ log, config: { ratelimit } })
  return await runSteps(server, allSteps)
}

export async function askSpires (): Promise<readonly Told[]> {
  await using spire = await startSpireServer({ config: { ratelimit, experimental: { cache_reload_interval: '1s' } } })
  await using admin = openUnixChannel(spire.adminSocket)
  return await runSteps({ admin, ready: { port: Number(spire.address.split(':')[1]) } }, allSteps)
}
