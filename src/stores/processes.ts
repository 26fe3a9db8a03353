/** Whether a process of this host is there; one of another user is. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as { code?: unknown }).code !== "ESRCH";
  }
}
