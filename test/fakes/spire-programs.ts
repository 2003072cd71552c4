import { spawnSync } from 'node:child_process'
import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buildMissing, type CachedBuild, runGo } from '../../scripts/cached-build.ts'

const source = join(import.meta.dirname, '../interop/spire')
const common = { version: '1.15.3', buildVariable: 'SPIRE_BUILD', inputs: ['go.mod', 'go.sum'].map(name => join(source, name)) } as const
const flags = ['build', '-ldflags=-s -w'] as const

/** SPIRE's agent, as its Go module has it. */
export const spireAgent: CachedBuild = {
  ...common, name: 'spire-agent', variable: 'SPIRE_AGENT_BIN', costs: 'four minutes of CPU',
  build: async program => { await runGo(source, [...flags, '-o', program, 'github.com/spiffe/spire/cmd/spire-agent']) }
}

/**
 * SPIRE's server, whose SQLite is in C, but for one upstream authority, `ejbca`, whose client is not to be had from every proxy of Go
 * modules.
 */
export const spireServer: CachedBuild = {
  ...common, name: 'spire-server', variable: 'SPIRE_SERVER_BIN', costs: 'eight minutes of CPU',
  build: async (program, folder) => {
    await runGo(source, ['mod', 'download', 'github.com/spiffe/spire'])
    const module = (await runGo(source, ['list', '-m', '-f', '{{.Dir}}', 'github.com/spiffe/spire'])).trim()
    const copy = join(folder, 'source')
    await cp(module, copy, { recursive: true })
    // The cache of modules is read-only, and so is its copy.
    spawnSync('chmod', ['-R', 'u+w', copy])
    await rm(join(copy, 'pkg/server/plugin/upstreamauthority/ejbca'), { recursive: true })
    const catalog = join(copy, 'pkg/server/catalog/upstreamauthority.go')
    const lines = (await readFile(catalog, 'utf8')).split('\n').filter(line => !line.includes('ejbca'))
    await writeFile(catalog, lines.join('\n'))
    await runGo(copy, [...flags, '-o', program, './cmd/spire-server'], { GOFLAGS: '-mod=mod' })
  }
}

/** Why it cannot be run here, or false; one that was named and is none is told of too. */
export function spireMissing (build: CachedBuild): string | false {
  const file = process.env[build.variable]
  if (file === undefined || file === '') return buildMissing(build)
  return spawnSync(file, ['--version']).status === 0 ? false : `${build.variable}: ${file} is no ${build.name} that runs here`
}
