import { spawnSync } from 'node:child_process'
import { builtProgram, buildMissing, type CachedBuild } from '../../scripts/cached-build.ts'
import { startSpireServer, type SpireDatastore, type SpireServer } from '../../test/fakes/spire.ts'
import { spireServer } from '../../test/fakes/spire-programs.ts'

/** What to do to have SPIRE measured too. */
export const withoutSpire = `SPIRE was not measured: let ${spireServer.variable} name the program spire-server, ` +
  `or set ${spireServer.buildVariable}=1 to have it built.`

/** @returns its version, as it calls itself; `undefined` when there is none. Throws when what is named is none. */
export async function findSpireServer (build: CachedBuild = spireServer): Promise<string | undefined> {
  if (buildMissing(build) !== false) return undefined
  const file = await builtProgram(build)
  const { status, stdout, stderr, error } = spawnSync(file, ['--version'], { encoding: 'utf8' })
  const version = `${stdout}${stderr}`.trim()
  if (status === 0 && version !== '') return version
  throw new Error(`${build.variable}: ${file} does not tell its version: ${error?.message ?? version}`)
}

/** With its defaults, rate limits apart, which are off; a self-signed authority, and keys on the disk. */
export async function startMeasuredSpire (datastore?: SpireDatastore): Promise<SpireServer> {
  return await startSpireServer({
    config: { log_level: 'INFO', ratelimit: { attestation: false, signing: false } }, keysOnDisk: true, ...datastore && { datastore }
  })
}
