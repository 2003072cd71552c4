import t from 'tap'
import { until } from '../fakes/envoy.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { Nodes } from './nodes.ts'

const skip = noNamespaces()
const seconds = Number(process.env['SOAK_SECONDS'] ?? 60)
/** Renewed at half of it. */
const svidTtl = '20s'
const pods = [
  ['one/a', '10.77.0.2', '/a'], ['one/b', '10.77.0.3', '/web'], ['two/c', '10.77.0.4', '/web'], ['two/d', '10.77.0.5', '/d']
] as const
const callers = ['one/a', 'two/d'] as const

t.setTimeout((seconds + 300) * 1_000)
await t.test(`every identity is renewed each 10 s, and connections with it, for ${seconds} s under load`, {
  skip, timeout: (seconds + 240) * 1_000
}, async t => {
  await using nodes = await Nodes.open({ default_x509_svid_ttl: svidTtl })
  // Tunnels live shorter than SVIDs: each certificate makes handshakes.
  const mesh = { redirect: false, connection_life: '5s' }
  const [one, two] = await Promise.all(['one', 'two'].map(name => nodes.startNode(name, { mesh })))
  const workloads = new Map<string, PodWorkload>()
  for (const [path, address, id] of pods) {
    nodes.network.addPod(path, address)
    workloads.set(path, await PodWorkload.start(nodes.network, path))
    await nodes.register((path.startsWith('one') ? one : two)!, id, `netns:name:${path.slice('one/'.length)}`)
  }
  await nodes.service('web', '10.99.0.1', ['/web'])
  await until('both callers to reach both workloads of the service', async () => {
    const answers = await Promise.all(callers.flatMap(path => Array.from({ length: 6 }, () => workloads.get(path)!.http('10.99.0.1', 80))))
    const answered = (name: string) => answers.some(({ body }) => body?.includes(name))
    return answers.every(({ status }) => status === 200) && answered('one/b') && answered('two/c')
  }, 60_000)

  const end = performance.now() + seconds * 1_000
  const failures: string[] = []
  /** Answered with another identity than the caller's, or by who is not the service. */
  const wrong: string[] = []
  let [requests, tcp] = [0, 0]
  const load = async (path: string, turn: number) => {
    const id = pods.find(pod => pod[0] === path)?.[2]
    for (let n = turn; performance.now() < end; n++) {
      const workload = workloads.get(path)!
      if (n % 3 === 0) {
        const reply = await workload.tcp('10.99.0.1', 90)
        tcp++
        if (!/^(one\/b|two\/c) hello$/.test(reply.body ?? '')) failures.push(`tcp ${JSON.stringify(reply)}`)
        if (/^(one\/a|two\/d) /.test(reply.body ?? '')) wrong.push(`tcp ${JSON.stringify(reply)}`)
      } else {
        const reply = await workload.http('10.99.0.1', 80)
        requests++
        if (reply.status !== 200) failures.push(`http ${JSON.stringify(reply)}`)
        else if (!reply.body?.includes(`URI=spiffe://example.org${id}"`)) wrong.push(`http ${JSON.stringify(reply)}`)
      }
    }
  }
  await Promise.all(callers.flatMap(path => [load(path, 0), load(path, 1)]))
  t.strictSame(wrong, [], 'none carried a wrong identity')
  t.comment(`${failures.length} of ${requests} requests and ${tcp} connections failed: ${failures.slice(0, 10).join(' ')}`)
  t.strictSame(failures, [], 'none failed')
  t.ok(requests > seconds, 'there was load')
  const renewed = [one, two].map(agent => agent!.process.lines().filter(({ msg, name }) =>
    msg === 'envoy applied a secret' && String(name).startsWith('spiffe://')).length)
  t.ok(renewed.every(count => count >= seconds / 12), `the proxies took over ${renewed.join(' and ')} certificates`)
})
