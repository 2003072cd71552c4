import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createSlurmAttestor } from '../../src/attestation/workload/slurm/slurm-attestor.ts'
import { slurmPlugin } from '../../src/attestation/workload/slurm/slurm-plugin.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { ContainerGroup, groupsMissing } from '../fakes/container-group.ts'
import { pin, startProcess } from './real-process.ts'

const signal = AbortSignal.timeout(60_000)
const scope = '/system.slice/slurmstepd.scope'

/** What the attestor finds of a process in these control groups. */
async function selectorsIn (groups: string): Promise<readonly string[]> {
  const proc = mkdtempSync(join(tmpdir(), 'assay-slurm-'))
  try {
    mkdirSync(join(proc, '7'))
    writeFileSync(join(proc, '7', 'cgroup'), groups)
    return (await createSlurmAttestor(proc).attest({ pid: 7, uid: 0, gid: 0, check () {} }, signal)).map(formatSelector)
  } finally {
    rmSync(proc, { recursive: true })
  }
}

void t.test('the job and the step of a process', async t => {
  const rows: ReadonlyArray<readonly [path: string, ...selectors: string[]]> = [
    [`${scope}/job_3385/step_batch/slurm`, 'slurm:job_id:3385', 'slurm:step:batch'],
    [`${scope}/job_42/step_extern/user/task_0`, 'slurm:job_id:42', 'slurm:step:extern'],
    [`${scope}/s5K1KKYAYG5D00/step_0/user/task_3`, 'slurm:sluid:s5K1KKYAYG5D00', 'slurm:step:0'],
    ['/system.slice/node1_slurmstepd.scope/job_1/step_7', 'slurm:job_id:1', 'slurm:step:7'],
    // Of no job.
    ['/'], [`${scope}/system`], [`${scope}/job_1`], [`${scope}/job_1x/step_0`], [`${scope}/job_1/step_`], ['/system.slice/sshd.service'],
    // Below the system's slice alone: others can make groups elsewhere.
    [`/user.slice/user-1000.slice/user@1000.service${scope}/job_9/step_0`], ['/slurmstepd.scope/job_9/step_0'],
    ['/system.slice/docker-1.scope/slurmstepd.scope/job_9/step_0']
  ]
  for (const [path, ...selectors] of rows) t.strictSame(await selectorsIn(`0::${path}\n`), selectors, path)
})

void t.test('several hierarchies say the same, or nothing is believed', async t => {
  const group = `${scope}/job_1/step_0`
  t.strictSame(await selectorsIn(`1:name=systemd:${group}/slurm\n0::${group}\n`), ['slurm:job_id:1', 'slurm:step:0'])
  const failed = { code: 'workload_attestation_failed' }
  await t.rejects(selectorsIn(`1:memory:${group}\n0::${scope}/job_2/step_0\n`), failed)
  await t.rejects(selectorsIn(`1:memory:${group}\n0::${scope}/job_1/step_1\n`), failed)
  await t.rejects(createSlurmAttestor('/none').attest({ pid: 7, uid: 0, gid: 0, check () {} }, signal), failed, 'unreadable')
})

void t.test('a real process in a real control group; the plugin takes no keys', { skip: groupsMissing() }, async t => {
  using group = new ContainerGroup(`/system.slice/assay${process.pid}_slurmstepd.scope/job_12/step_interactive`)
  await using job = await startProcess(['/bin/sleep', '600'], realpathSync('/bin/sleep'))
  group.add(job.pid)
  await using attestor = await slurmPlugin.start(slurmPlugin.config.parse({}), {}, signal)
  t.strictSame((await attestor.attest(pin(job.pid), signal)).map(formatSelector), ['slurm:job_id:12', 'slurm:step:interactive'])
  t.strictSame(await attestor.attest(pin(process.pid), signal), [])
  t.throws(() => slurmPlugin.config.parse({ job_id: 1 }))
})
