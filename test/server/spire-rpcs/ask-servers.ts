import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openUnixChannel } from '../../../src/rpc/channel.ts'
import { type CaFiles, createTestCa, writeCaFiles } from '../../fakes/ca-files.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { startTestServer, testPlugins } from '../../fakes/server.ts'
import { startSpireServer } from '../../fakes/spire.ts'
import { type Setting, settings } from './settings.ts'
import { runSteps, type Told } from './step.ts'

/** Signing is limited on both sides, attestation on neither. */
const ratelimit = { attestation: false, signing: true }

export async function askOurs (setting: Setting): Promise<readonly Told[]> {
  return await withRoot(setting, async disk => {
    const { log } = capturedLog()
    // As the real one is configured.
    log.level = 'debug'
    const plugins = testPlugins(disk === undefined ? {} : { UpstreamAuthority: { disk: { plugin_data: disk } } })
    await using server = await startTestServer({ log, config: { ratelimit, plugins, disableJwtSvids: setting === 'withoutJwt' } })
    return await runSteps(server, settings[setting])
  })
}

export async function askSpires (setting: Setting): Promise<readonly Told[]> {
  return await withRoot(setting, async disk => {
    const config = { ratelimit, experimental: { cache_reload_interval: '1s' }, disable_jwt_svids: setting === 'withoutJwt' }
    await using spire = await startSpireServer({ config, ...disk === undefined ? {} : { upstreamDisk: disk } })
    await using admin = openUnixChannel(spire.adminSocket)
    return await runSteps({ admin, ready: { port: Number(spire.address.split(':')[1]) } }, settings[setting])
  })
}

/** With the files of a root, where the setting has one. */
async function withRoot<T> (setting: Setting, work: (disk: CaFiles | undefined) => Promise<T>): Promise<T> {
  if (setting !== 'upstream') return await work(undefined)
  const folder = await mkdtemp(join(tmpdir(), 'spire-rpcs-'))
  try {
    return await work(await writeCaFiles(folder, [await createTestCa()]))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
