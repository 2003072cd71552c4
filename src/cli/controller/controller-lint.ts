import { ApiServer } from '../../attestation/kubernetes/api-server.ts'
import { lintManifests } from '../../controller/lint/lint-manifests.ts'
import { readManifests, type Manifest } from '../../controller/lint/manifest.ts'
import { readCluster } from '../../controller/lint/read-cluster.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, pathListFlag, trustDomainFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { formatFindings, lintExitCode, lintFlags, unignored } from '../lint-findings.ts'
import { usage } from '../parse-flags.ts'
import { counted } from '../pretty.ts'
import { readInputText } from '../read-input.ts'
import { outputFlag } from '../socket-path.ts'

export const controllerLint = defineCommand({
  flags: {
    f: pathListFlag('Kubernetes manifests, YAML or JSON; - is standard input'),
    kubeconfig: pathFlag('of a cluster whose custom resources are looked at too'),
    trustDomain: trustDomainFlag('the controller\'s: resources for another one are told of'),
    ...lintFlags,
    output: outputFlag
  },
  argument: { name: 'FILE...', optional: true, most: 10_000 },
  details: 'Finds resources that give identities to more pods than meant, or to none, and servers and agents that are run in a way\n' +
    'that cannot be right, in manifests as they would be applied; of a cluster, in its custom resources alone. Give all files\n' +
    'at once: some mistakes are between them. docs/controller-lint.md explains each code. Exit code 0: nothing as severe as\n' +
    '-failOn; 5: something is.',
  examples: [
    'assay controller lint -f identities.yaml', 'helm template spire | assay controller lint -f - -failOn warning -output json',
    'assay controller lint -kubeconfig ~/.kube/config',
    'assay controller lint manifests/*.yaml -trustDomain example.org -ignore every-pod'
  ],
  async run ({ flags, arguments: paths, terminal }) {
    const files = [...flags.f, ...paths]
    if (files.length === 0 && flags.kubeconfig === undefined) throw usage('name manifests with -f, or a cluster with -kubeconfig')
    if (files.filter(file => file === '-').length > 1) throw usage('standard input can be read once')
    const manifests: Manifest[] = []
    for (const file of files) {
      manifests.push(...readManifests(file === '-' ? 'standard input' : file, await readInputText(file, terminal)))
    }
    if (flags.kubeconfig !== undefined) manifests.push(...await manifestsOf(flags.kubeconfig))
    const findings = unignored(lintManifests(manifests, { trustDomain: flags.trustDomain }), flags)
    terminal.out(flags.output === 'json' ? `${formatJson({ objects: manifests.length, findings })}\n`
      : `${formatFindings(findings, 'manifests')}${counted(manifests.length, 'object', 'objects')}, ` +
        `${counted(findings.length, 'finding', 'findings')}\n`)
    return lintExitCode(findings, flags)
  }
})

async function manifestsOf (kubeconfig: string): Promise<readonly Manifest[]> {
  await using api = ApiServer.of(kubeconfig)
  const { signal } = new AbortController()
  return await readCluster(path => api.get(path, signal))
}
