import { cp, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buildMissing, builtProgram, type CachedBuild, runGo, withoutC } from '../../scripts/cached-build.ts'
import { yamlObjects } from './yaml-objects.ts'

const source = join(import.meta.dirname, 'cert-manager')
const inputs = ['go.mod', 'go.sum', 'main.go'].map(name => join(source, name))
const common = { version: '1.21.2', buildVariable: 'CERT_MANAGER_BUILD', inputs } as const

const controllers: CachedBuild = {
  ...common, name: 'cert-manager', variable: 'CERT_MANAGER_BIN', costs: 'three minutes of CPU',
  build: async program => { await runGo(source, ['build', '-trimpath', '-ldflags=-s -w', '-o', program, '.'], withoutC) }
}

/** A folder: the definitions of its resources, as its module has them. */
const definitions: CachedBuild = {
  ...common, name: 'cert-manager-crds', variable: 'CERT_MANAGER_CRDS', costs: 'nothing beside cert-manager',
  build: async folder => {
    await runGo(source, ['mod', 'download', 'github.com/cert-manager/cert-manager'])
    const module = (await runGo(source, ['list', '-m', '-f', '{{.Dir}}', 'github.com/cert-manager/cert-manager'])).trim()
    await cp(join(module, 'deploy/crds'), folder, { recursive: true })
  }
}

/** Why cert-manager cannot be run here, or false. */
export function certManagerMissing (): string | false { return buildMissing(controllers) || buildMissing(definitions) }

/** The program's path; built if that was asked for. */
export async function certManager (): Promise<string> { return await builtProgram(controllers) }

/** The definitions of requests and issuers. */
export async function certManagerDefinitions (): Promise<readonly object[]> {
  const folder = await builtProgram(definitions)
  const files = (await readdir(folder)).filter(name => /_(certificaterequests|issuers|clusterissuers)\.yaml$/.test(name))
  return await Promise.all(files.map(async name => yamlObjects(name, await readFile(join(folder, name), 'utf8'))[0] as object))
}
