import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { dependenciesOf, readComposeFile, runWords, type ComposeService } from '../../compose/podman/compose-file.ts'

const file = join(import.meta.dirname, '../../compose/compose.yaml')
const written = (folder: string, text: string) => {
  const path = join(folder, 'compose.yaml')
  writeFileSync(path, text)
  return path
}

t.test('the services of compose.yaml, each after those it depends on', async t => {
  const { services, subnet } = readComposeFile(file)
  t.equal(subnet, '172.30.0.0/24')
  const names = [...services.keys()]
  for (const [name, service] of services) {
    for (const other of dependenciesOf(service).keys()) t.ok(names.indexOf(other) < names.indexOf(name), `${other} before ${name}`)
  }
  t.strictSame(dependenciesOf(services.get('node-1-envoy') as ComposeService), new Map([['node-1-agent', 'service_healthy']]))
})

t.test('what podman is told of a service', async t => {
  const { services } = readComposeFile(file)
  const words = (name: string) => runWords('/c/compose.yaml', name, services.get(name) as ComposeService, {
    assay: 'here/assay', 'postgres:17-bookworm': 'here/postgres'
  }).join(' ')
  t.equal(words('node-1-envoy'), 'run --detach --name node-1-envoy --volume node-1-socket:/tmp/assay-agent/public ' +
    '--network container:node-1-agent --pid container:node-1-agent --user 10001 ' +
    'here/assay sh /opt/assay/compose/run-envoy.sh client-node.yaml 172.30.0.32')
  t.match(words('server-2'), '--network mesh --ip 172.30.0.22 here/assay assay server run')
  t.match(words('postgres-standby'), '--volume /c/postgres-standby.sh:/postgres-standby.sh:ro')
  t.match(words('postgres-standby'), '--entrypoint ["sh","/postgres-standby.sh"] here/postgres')
  t.match(words('backend'), '--interactive')
  t.match(words('secrets'), '--network none')
  t.match(words('node-2-agent'), '--cap-add SYS_PTRACE')
  t.throws(() => runWords(file, 'x', { image: 'other' }, {}), { message: 'x: there is no image other here' })
})

t.test('what it does not understand it refuses', async t => {
  const networks = 'networks: {n: {ipam: {config: [{subnet: 10.9.0.0/24}]}}}'
  const refused = {
    'a: this does not know what privileged means': '{a: {image: x, privileged: true}}',
    'a depends on b, which there is not': '{a: {image: x, depends_on: [b]}}',
    'a depends on itself': '{a: {image: x, depends_on: [b]}, b: {image: x, network_mode: "service:a"}}'
  }
  for (const [why, services] of Object.entries(refused)) {
    const path = written(t.testdir({}), `services: ${services}\n${networks}`)
    t.throws(() => readComposeFile(path), new RegExp(why))
  }
})
