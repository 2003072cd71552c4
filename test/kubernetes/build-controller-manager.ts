import { join } from 'node:path'
import { buildMissing, builtProgram, type CachedBuild, runGo, withoutC } from '../../scripts/cached-build.ts'

const source = join(import.meta.dirname, 'spire-controller-manager')

const manager: CachedBuild = {
  name: 'spire-controller-manager', version: '0.6.4', costs: 'three minutes of CPU',
  variable: 'SPIRE_CONTROLLER_MANAGER_BIN', buildVariable: 'SPIRE_CONTROLLER_MANAGER_BUILD',
  inputs: ['go.mod', 'go.sum'].map(name => join(source, name)),
  build: async program => {
    const words = ['build', '-trimpath', '-ldflags=-s -w', '-o', program, 'github.com/spiffe/spire-controller-manager/cmd']
    await runGo(source, words, withoutC)
  }
}

/** Why SPIRE's controller manager cannot be run here, or false. */
export function controllerManagerMissing (): string | false { return buildMissing(manager) }

/** The program's path; built if that was asked for. */
export async function controllerManager (): Promise<string> { return await builtProgram(manager) }
