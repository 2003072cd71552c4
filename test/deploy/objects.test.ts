import t from 'tap'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { parseControllerConfig } from '../../src/controller/controller-config.ts'
import { type CommandLeaf, isGroup } from '../../src/cli/command.ts'
import { commandTree } from '../../src/cli/command-tree.ts'
import { findCommand } from '../../src/cli/find-command.ts'
import { parseFlags } from '../../src/cli/parse-flags.ts'
import { envoyBootstrap } from '../../src/mesh/envoy/bootstrap.ts'
import { parseServerConfig, serverConfigWarnings } from '../../src/server/server-config.ts'
import { type KubeObject, objectsIn } from '../../scripts/render-deploy.ts'
import { fileOf, find, nameOf, podTemplateOf, type PodTemplate } from './objects.ts'

const root = join(import.meta.dirname, '../..')
const parts = new Map(globSync('*/objects.yaml', { cwd: join(root, 'deploy/kustomize/parts') })
  .map(file => [dirname(file), objectsIn(readFileSync(join(root, 'deploy/kustomize/parts', file), 'utf8'))]))
const objectsOf = (name: string): readonly KubeObject[] => parts.get(name) ?? []
const templates = [...parts].flatMap(([name, objects]) => objects.flatMap(object => {
  const template = podTemplateOf(object)
  return template === undefined ? [] : [{ part: name, name: nameOf(object), template }]
}))
const template = (part: string) => templates.find(template => template.part === part)?.template as PodTemplate
const serverConfig = (name: string) => parseServerConfig({
  file: {
    name: 'server.yaml', text: fileOf(objectsOf(name), 'assay-server', 'server.yaml').replaceAll('$DATASTORE_URL', 'postgres://u@db/assay')
  }
})
const agentConfig = (name: string) =>
  parseAgentConfig({ file: { name: 'agent.yaml', text: fileOf(objectsOf(name), 'assay-agent', 'agent.yaml') } })

const controllerConfig = (name: string) =>
  parseControllerConfig({ file: { name: 'controller.yaml', text: fileOf(objectsOf(name), 'assay-controller', 'controller.yaml') } })

void t.test('the configurations are ours, and leave nothing to be warned of', async t => {
  for (const name of ['server-sqlite', 'server-postgresql']) t.strictSame(serverConfigWarnings(serverConfig(name)), [], name)
  t.equal(serverConfig('server-sqlite').plugins.KeyManager[0]?.name, 'disk')
  t.match(serverConfig('server-sqlite').datastoreUrl, /datastore\.sqlite3$/)
  t.equal(serverConfig('server-postgresql').plugins.KeyManager[0]?.name, 'database')
  t.match(serverConfig('server-postgresql').datastoreUrl, /^postgres:/)
  t.equal(agentConfig('agent-sds-only').mesh, undefined)
  t.same(agentConfig('agent-mesh').mesh?.envoy, undefined, 'Envoy is a container of its own')
})

void t.test('the server\'s address depends on the server alone', async t => {
  for (const part of ['server-sqlite', 'server-postgresql']) {
    const asked = template(part).spec.containers.filter(container => 'readinessProbe' in container).map(({ name }) => name)
    t.strictSame(asked, ['server'], `${part}: not on whether the controller can read the cluster`)
  }
})

void t.test('what one object says of another is so', async t => {
  for (const [server, agent] of [['server-sqlite', 'agent-sds-only'], ['server-postgresql', 'agent-mesh']] as const) {
    const objects = [...objectsOf(server), ...objectsOf(agent)]
    const { NodeAttestor: [attestor], BundlePublisher: [publisher] } = serverConfig(server).plugins
    const { spec } = template(agent)
    const { namespace } = find(objects, 'DaemonSet', 'assay-agent').metadata
    const { clusters } = attestor!.config as { clusters: Record<string, { serviceAccounts: Set<string>, audiences: string[] }> }
    const [cluster, { serviceAccounts, audiences }] = Object.entries(clusters)[0]!
    t.strictSame([...serviceAccounts], [`${namespace}:${spec.serviceAccountName}`], 'agents attest by their account')
    t.match(spec.volumes.find(({ name }) => name === 'token'), {
      projected: { sources: [{ serviceAccountToken: { audience: audiences[0], path: 'assay-agent' } }] }
    }, 'with a token for the server')
    t.match(agentConfig(agent).plugins.NodeAttestor[0]?.config, { cluster }, 'of the cluster that the server knows')
    const { serverSocketPath, lease, scope } = controllerConfig(server)
    t.equal(serverSocketPath, serverConfig(server).socketPath, 'the controller asks the server beside it')
    t.match(scope.naming, { trustDomain: serverConfig(server).trustDomain, clusterName: cluster }, 'and names the cluster as agents do')
    t.equal(lease.namespace, find(objects, 'Service', 'assay-server').metadata.namespace)
    t.ok(['assay', 'assay-node', 'kube-system'].every(name => scope.ignores(name)) && !scope.ignores('assay-shop'))
    const place = Object.values((publisher!.config as { clusters: Record<string, object> }).clusters)[0]
    const map = find(objects, 'ConfigMap', 'assay-bundle').metadata
    t.match(place, { namespace: map.namespace, configmap_name: map.name, configmap_key: 'bundle.pem' }, 'the server writes it there')
    t.match(spec.volumes.find(({ name }) => name === 'bundle'), { configMap: { name: map.name, items: [{ key: 'bundle.pem' }] } })
    const service = find(objects, 'Service', 'assay-server').metadata
    t.strictSame(agentConfig(agent).serverAddresses, [`${service.name}.${service.namespace}.svc:8081`])
  }
})

void t.test('what programs write is on a volume, and what they read is mounted', async t => {
  const checkPaths = (part: string, container: string, paths: Readonly<Record<string, 'read' | 'write'>>) => {
    const mounts = template(part).spec.containers.find(({ name }) => name === container)?.volumeMounts ?? []
    for (const [path, how] of Object.entries(paths)) {
      const mount = mounts.find(({ mountPath }) => path === mountPath || path.startsWith(`${mountPath}/`))
      t.ok(mount !== undefined && (how === 'read' || mount.readOnly !== true), `${part}: ${container} may ${how} ${path}`)
    }
  }
  for (const part of ['server-sqlite', 'server-postgresql']) {
    const { socketPath, dataDir } = serverConfig(part)
    checkPaths(part, 'server', { [socketPath]: 'write', [dataDir]: 'write', '/etc/assay/server.yaml': 'read' })
  }
  for (const part of ['server-sqlite', 'server-postgresql']) {
    const { serverSocketPath = '' } = controllerConfig(part)
    checkPaths(part, 'controller', { [serverSocketPath]: 'read', '/etc/assay-controller/controller.yaml': 'read' })
  }
  checkPaths('server-postgresql', 'server', { '/run/secrets/assay/key-encryption-key': 'read' })
  for (const part of ['agent-sds-only', 'agent-mesh']) {
    const { socketPath, dataDir, trustBundlePath = '', mesh } = agentConfig(part)
    checkPaths(part, 'agent', {
      [socketPath]: 'write', [dataDir]: 'write', [trustBundlePath]: 'read', '/var/run/secrets/tokens/assay-agent': 'read',
      '/etc/assay/agent.yaml': 'read', ...mesh === undefined ? {} : { [mesh.xdsSocketPath]: 'write', '/run/netns': 'read' }
    })
    if (mesh === undefined) continue
    checkPaths(part, 'envoy', {
      [mesh.xdsSocketPath]: 'read', [dataDir]: 'read', '/run/netns': 'read', '/run/envoy/admin.sock': 'write'
    })
    t.strictSame(JSON.parse(fileOf(objectsOf(part), 'assay-envoy', 'envoy.json')), envoyBootstrap({
      xdsSocketPath: mesh.xdsSocketPath, adminSocketPath: '/run/envoy/admin.sock', nodeId: 'node'
    }), 'Envoy finds the agent')
  }
})

void t.test('capabilities are those of the documentation, and all else is taken away', async t => {
  const documented = readFileSync(join(root, 'docs/deploy.md'), 'utf8')
  for (const { part, name, template: { spec } } of templates) {
    t.equal(spec.securityContext.seccompProfile.type, 'RuntimeDefault', name)
    t.notOk(spec.hostNetwork, `${name}: a network of its own`)
    for (const container of spec.containers) {
      const { securityContext: { privileged, allowPrivilegeEscalation, readOnlyRootFilesystem, capabilities } } = container
      t.ok(readOnlyRootFilesystem, `${part} ${container.name} cannot change its image`)
      const rights = privileged === true ? ['privileged'] : capabilities?.add ?? []
      const row = `| \`${container.name}\` | \`${part}\` | ${rights.map(right => `\`${right}\``).join(', ') || 'none'} |`
      t.ok(documented.includes(row), `documented: ${row}`)
      if (privileged === true) continue
      t.strictSame(capabilities?.drop, ['ALL'])
      t.equal(allowPrivilegeEscalation, false)
    }
  }
  for (const name of ['server-sqlite', 'server-postgresql']) t.ok(template(name).spec.securityContext.runAsNonRoot, name)
  t.strictSame(templates.map(({ part }) => part).toSorted(), ['agent-mesh', 'agent-sds-only', 'csi', 'server-postgresql', 'server-sqlite'])
})

void t.test('pods are enrolled by labels, and the runtime\'s plugin tells of them', async t => {
  const { mesh, dataDir } = agentConfig('agent-mesh')
  const { containers, volumes, hostPID } = template('agent-mesh').spec
  t.ok(mesh?.kubernetes?.namespaceLabels && mesh.netnsFolder === undefined && hostPID)
  const [agent, envoy, cni] = ['agent', 'envoy', 'cni'].map(wanted => containers.find(({ name }) => name === wanted))
  const netns = { mountPath: '/run/netns', readOnly: true, mountPropagation: 'HostToContainer' }
  for (const container of [agent, envoy]) t.match(container?.volumeMounts.find(({ name }) => name === 'netns'), netns)
  t.match(volumes.find(({ name }) => name === 'netns'), { hostPath: { path: '/var/run/netns' } })
  t.ok(agent?.volumeMounts.some(({ mountPath }) => dataDir === mountPath), 'what the agent knows of pods outlives it')

  const { node, rest } = findCommand(commandTree, cni?.args ?? [])
  const { flags } = await (node as CommandLeaf).load()
  const { values } = parseFlags({ flags } as Parameters<typeof parseFlags>[0], rest) as unknown as { values: Record<string, unknown> }
  const daemonSet = find(objectsOf('agent-mesh'), 'DaemonSet', 'assay-agent').metadata
  t.match(values, { socketPath: mesh?.xdsSocketPath, onFailure: 'fail-closed', owner: `${daemonSet.namespace}/${daemonSet.name}/cni` })
  t.strictSame(values['exemptNamespace'], ['kube-system', 'assay', 'assay-node'], 'server and agent start where there is no agent yet')
  for (const path of [values['binDir'], values['configDir'], values['programDir']]) {
    const mount = cni?.volumeMounts.find(({ mountPath }) => mountPath === path)
    t.match(volumes.find(({ name }) => name === mount?.name), { hostPath: { path } }, `${String(path)}: the same here and on the node`)
    t.notOk(mount?.readOnly)
  }
  t.equal(cni?.volumeMounts.length, 3, 'and nothing else: neither keys nor the mesh\'s socket')

  const rules = (part: string, wanted: string) =>
    objectsOf(part).filter(({ kind }) => kind === wanted).flatMap(({ rules }) => rules as object[])
  const pods = { apiGroups: [''], resources: ['nodes/pods'], verbs: ['get'] }
  t.strictSame(rules('agent-mesh', 'ClusterRole'), [pods, { apiGroups: [''], resources: ['namespaces'], verbs: ['get'] }])
  t.strictSame(rules('agent-mesh', 'Role'), [{
    apiGroups: ['apps'], resources: ['daemonsets'], resourceNames: ['assay-agent'], verbs: ['get']
  }])
  const without = ['ClusterRole', 'Role'].map(kind => rules('agent-sds-only', kind))
  t.strictSame(without, [[pods], []], 'without the mesh nothing of it is there')
  t.strictSame(template('agent-sds-only').spec.containers.map(({ name }) => name), ['agent'])
})

void t.test('images are those that the Containerfile makes, and no tag moves', async t => {
  const made = [...readFileSync(join(root, 'deploy/Containerfile'), 'utf8').matchAll(/^FROM scratch AS (\S+)$/gm)].map(([, name]) => name)
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  for (const { template: { spec } } of templates) {
    for (const { name, image } of spec.containers) {
      if (name === 'envoy') t.match(image, /:distroless-v1\.40\.0$/, 'the Envoy that is tested')
      else t.ok(made.map(name => `${name}:${version}`).includes(image), image)
    }
  }
})

void t.test('programs are called as they can be', async t => {
  for (const { part, template: { spec } } of templates) {
    for (const { name, args } of spec.containers.filter(({ name }) => name !== 'envoy')) {
      const { node, path, rest } = findCommand(commandTree, args)
      if (isGroup(node)) {
        t.fail(`${part}: ${name}: ${args.join(' ')} is no command`)
        continue
      }
      const { flags } = await node.load()
      t.ok(Object.keys(parseFlags({ flags } as Parameters<typeof parseFlags>[0], rest).values).length > 0, `${part}: ${path.join(' ')}`)
    }
  }
})
