import t from 'tap'
import { until } from '../fakes/envoy.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { chooseSeed, Random } from '../fakes/random.ts'
import { KubeNodes } from './kube-nodes.ts'
import { PodChurn } from './pod-churn.ts'

const seconds = Number(process.env['SOAK_SECONDS'] ?? 90)

t.setTimeout((seconds + 1_200) * 1_000)
await t.test(`pods on two nodes, relabelled, rescheduled and at each other's addresses, for ${seconds} s`, {
  skip: noNamespaces(), timeout: (seconds + 1_100) * 1_000
}, async t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  await using kube = await KubeNodes.open()
  const [one, two] = await Promise.all([kube.startNode('one', { logLevel: 'info' }), kube.startNode('two', { logLevel: 'info' })])
  const random = new Random(seed)
  const churn = await PodChurn.open(kube, [one, two], random)

  const begin = performance.now()
  /** On a machine that others keep busy not much happens in a time: so much at least. */
  const changeUntil = async (share: number) => {
    for (let made = 0; made < 6 || performance.now() < begin + share * seconds * 1_000; made++) await churn.change()
  }
  await changeUntil(1 / 3)

  // A pod that is to start while its node has no agent waits for the next one.
  await one.kill9()
  const pod = random.pick(churn.live)
  await churn.stop(pod)
  const probe = kube.createPod({ node: 'one', name: 'p9', address: '10.77.0.99' })
  t.match(await kube.cni('ADD', probe), { code: 1, answer: { code: 11 } }, 'without an agent no pod of the mesh starts')
  await kube.deletePod(probe)
  const starting = churn.start(pod.pod.name, 'one', pod.pod.address)
  const again = await kube.startNode('one', { folder: one.folder, logLevel: 'info' })
  await starting
  await changeUntil(2 / 3)

  const { envoy } = await kube.nodes.status('two')
  process.kill(envoy?.pid ?? 0, 'SIGKILL')
  await until('another Envoy on node two', async () => ((await kube.nodes.status('two')).envoy?.restarts ?? 0) > 0, 120_000)
  await changeUntil(1)
  await churn.allReached()

  const { calls, right, failed, wrong, unprotected } = await churn.end()
  t.comment(`${JSON.stringify(churn.changes)}; ${calls} calls: ${right} right, ${failed} failed, ${wrong.length} wrong; ` +
    `${unprotected.length} unprotected`)
  t.strictSame(wrong.slice(0, 10), [], 'wrong identities: 0')
  t.strictSame(unprotected.slice(0, 10), [], 'unprotected packets: 0')
  t.ok(right > 50, `${right} calls got through`)
  const clear = [...kube.wire.read().values()].reduce((sum, packets) => sum + packets, 0)
  t.ok(clear > 0, `${clear} packets in the clear by pods that were let out: the counter counts`)
  t.notMatch(again.log() + two.log(), /trying again/, 'nothing that labels say could not be made real')
})
