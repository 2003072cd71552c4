import { join } from 'node:path'
import { buildMissing, builtProgram, type CachedBuild, runGo, withoutC } from './cached-build.ts'

const source = join(import.meta.dirname, '../deploy/tools')

const tools = {
  helm: tool('helm', '4.3.1', 'helm.sh/helm/v4/cmd/helm'), kustomize: tool('kustomize', '5.8.1', 'sigs.k8s.io/kustomize/kustomize/v5')
} as const
export type DeployTool = keyof typeof tools

/** Why a tool cannot be run here, or false. */
export function deployToolMissing (name: DeployTool): string | false { return buildMissing(tools[name]) }

/** The program's path; built if that was asked for. */
export async function deployTool (name: DeployTool): Promise<string> { return await builtProgram(tools[name]) }

/** Of the version that is tested. */
function tool (name: string, version: string, module: string): CachedBuild {
  return {
    name, version, costs: 'minutes of CPU', variable: `${name.toUpperCase()}_BIN`, buildVariable: 'DEPLOY_TOOLS_BUILD',
    inputs: ['go.mod', 'go.sum'].map(file => join(source, file)),
    build: async program => { await runGo(source, ['build', '-trimpath', '-ldflags=-s -w', '-o', program, module], withoutC) }
  }
}
