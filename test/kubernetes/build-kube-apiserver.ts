import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { buildMissing, builtProgram, type CachedBuild, runGo, withoutC } from '../../scripts/cached-build.ts'

const source = join(import.meta.dirname, 'kube-apiserver')
const version = '1.36.3'

const apiserver: CachedBuild = {
  name: 'kube-apiserver', version, costs: 'ten minutes of CPU', variable: 'KUBE_APISERVER_BIN', buildVariable: 'KUBE_APISERVER_BUILD',
  inputs: ['go.mod', 'go.sum', 'main.go'].map(name => join(source, name)),
  build: async program => {
    const about = Object.entries({ gitVersion: `v${version}`, gitMajor: '1', gitMinor: version.split('.')[1] as string })
      .map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`)
    await runGo(source, ['build', '-trimpath', `-ldflags=-s -w ${about.join(' ')}`, '-o', program, '.'], withoutC)
  }
}

/** Why no API server can be run here, or false. */
export function kubeApiserverMissing (): string | false {
  if (spawnSync('etcd', ['--version']).error !== undefined) return 'etcd is not installed (Debian package etcd-server)'
  return buildMissing(apiserver)
}

/** The program's path; built if that was asked for. */
export async function kubeApiserver (): Promise<string> { return await builtProgram(apiserver) }
