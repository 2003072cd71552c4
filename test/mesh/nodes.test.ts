import t from 'tap'
import { until } from '../fakes/envoy.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { Nodes } from './nodes.ts'

const skip = noNamespaces()

void t.test('two nodes: agents run their Envoys, services are reached, workloads come and go', { skip, timeout: 120_000 }, async t => {
  await using nodes = await Nodes.open()
  const [one, two] = await Promise.all([nodes.startNode('one'), nodes.startNode('two')])
  const pods = [['one/a', '10.77.0.2'], ['one/b', '10.77.0.3'], ['two/c', '10.77.0.4'], ['two/d', '10.77.0.5']] as const
  for (const [name, address] of pods) nodes.network.addPod(name, address, { redirected: false })
  await Promise.all([
    nodes.register(one, '/a', 'netns:name:a'), nodes.register(one, '/b', 'netns:name:b'),
    nodes.register(two, '/web', 'netns:name:c')
  ])
  const [a, b, c] = await Promise.all(pods.map(([name]) => PodWorkload.start(nodes.network, name)))
  await nodes.service('web', '10.99.0.1', ['/web'], ['/a'])
  const called = async () => (await a!.http('10.99.0.1', 80)).status === 200
  await until('a to reach the service', called).catch((error: unknown) => {
    t.comment(one.log().split('\n').slice(-60).join('\n'))
    t.comment(two.log().split('\n').slice(-60).join('\n'))
    throw error
  })
  const { body } = await a!.http('10.99.0.1', 80)
  t.match(JSON.parse(body ?? '{}'), { name: 'two/c', xfcc: 'URI=spiffe://example.org/a' }, 'the workload on the other node learns who called')
  t.equal((await a!.tcp('10.99.0.1', 90)).body, 'two/c hello')
  t.not((await b!.http('10.99.0.1', 80)).status, 200, 'who is no caller of the service is refused')
  t.match(await a!.tcp('10.77.0.2', 9000), { body: 'one/a hello' }, 'a workload reaches itself')
  t.match(await c!.http('10.77.0.3', 8080), { error: /.+/ }, 'one that answers for no service is not reached, in the clear least of all')

  const { workloads, proxies, envoy } = await nodes.status('two')
  const byName = Object.fromEntries(workloads.map(one => [one.name, one]))
  t.match(byName, { c: { spiffeId: 'spiffe://example.org/web', served: true }, d: { spiffeId: '' } })
  t.match({ proxies, envoy }, { proxies: 1, envoy: { state: 'LIVE', version: '1.40.0', restarts: 0 } })

  const id = await nodes.register(two, '/web', 'netns:name:d')
  await until('the second workload of the service', async () =>
    /two\/d/.test((await a!.http('10.99.0.1', 80)).body ?? ''))
  await nodes.unregister(id)
  let statuses: (number | undefined)[] = []
  await until('the second workload to answer no more', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => a!.http('10.99.0.1', 80)))
    statuses = [...statuses, ...answers.map(({ status }) => status)]
    return answers.every(({ body }) => body?.includes('two/c') === true)
  })
  t.strictSame(new Set(statuses), new Set([200]), 'no call is lost on the way')

  process.kill(envoy?.pid ?? 0, 'SIGKILL')
  await until('Envoy to be started again', async () => (await nodes.status('two')).envoy?.restarts === 1)
  await until('the service to be reached again', called)
})
