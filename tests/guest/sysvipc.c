/* System V shared memory, semaphores, message queues; POSIX queues. */
#include "tests/lib/guest.h"

#include <mqueue.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

TEST(shm_shares)
{
	int id = OK(shmget(IPC_PRIVATE, 10000, 0600));
	char *p = OK(shmat(id, NULL, 0));
	struct shmid_ds ds;

	CHILD(pid)
	{
		p[9000] = 'c';
		char *again = OK(shmat(id, NULL, SHM_RDONLY));
		CHECK_EQ(again[9000], 'c');
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(p[9000], 'c');
	OK(shmctl(id, IPC_STAT, &ds));
	CHECK_EQ(ds.shm_segsz, 10000);
	CHECK_EQ(ds.shm_nattch, 1);
	CHECK_EQ(ds.shm_cpid, getpid());
	OK(shmctl(id, IPC_RMID, NULL));
	p[0] = 'x';
	OK(shmdt(p));
	ERR(shmdt(p), EINVAL);
	ERR(shmat(id, NULL, 0), EINVAL);
}

TEST(shm_keys)
{
	int id = OK(shmget(0x777, PAGE, IPC_CREAT | IPC_EXCL | 0600));

	CHECK_EQ(shmget(0x777, 0, 0), id);
	ERR(shmget(0x777, PAGE, IPC_CREAT | IPC_EXCL), EEXIST);
	ERR(shmget(0x777, 2 * PAGE, 0), EINVAL);
	ERR(shmget(0x778, PAGE, 0), ENOENT);
	ERR(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
	CHILD(pid)
	{
		become_user(1000);
		ERR(shmget(0x777, 0, 0600), EACCES);
		ERR(shmat(id, NULL, 0), EACCES);
		ERR(shmctl(id, IPC_RMID, NULL), EPERM);
	}
	WAIT_EXIT(pid, 0);
	OK(shmctl(id, IPC_RMID, NULL));
}

TEST(shm_addresses)
{
	int id = OK(shmget(IPC_PRIVATE, PAGE, 0600));
	char *p = OK(mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	ERR(shmat(id, p + 100, 0), EINVAL);
	ERR(shmat(id, p, 0), EINVAL);
	CHECK(shmat(id, p + 100, SHM_RND | SHM_REMAP) == p);
	p[0] = 1;
	OK(shmdt(p));
	OK(shmctl(id, IPC_RMID, NULL));
}

TEST(sem_operations)
{
	int id = OK(semget(IPC_PRIVATE, 3, 0600));
	unsigned short values[3] = { 1, 2, 3 };
	struct sembuf ops[2] = { { 0, -1, IPC_NOWAIT }, { 1, 5, 0 } };

	OK(semctl(id, 0, SETALL, (union semun){ .array = values }));
	OK(semop(id, ops, 2));
	CHECK_EQ(semctl(id, 0, GETVAL), 0);
	CHECK_EQ(semctl(id, 1, GETVAL), 7);
	ERR(semop(id, ops, 2), EAGAIN);
	CHECK_EQ(semctl(id, 1, GETVAL), 7);
	CHECK_EQ(semctl(id, 1, GETPID), getpid());
	ops[0].sem_num = 9;
	ERR(semop(id, ops, 1), EFBIG);
	ERR(semop(id, ops, 0), EINVAL);
	ERR(semctl(id, 5, GETVAL), EINVAL);
	ERR(semctl(id, 0, SETVAL, (union semun){ .val = 40000 }), ERANGE);
	OK(semctl(id, 0, IPC_RMID));
	ERR(semctl(id, 0, GETVAL), EINVAL);
}

TEST(sem_blocks_and_wakes)
{
	int id = OK(semget(IPC_PRIVATE, 1, 0600));

	CHILD(pid)
	{
		OK(semop(id, &(struct sembuf){ 0, -2, 0 }, 1));
	}
	for (int i = 0; i < 500 && semctl(id, 0, GETNCNT) != 1; i++)
		msleep(10);
	CHECK_EQ(semctl(id, 0, GETNCNT), 1);
	OK(semop(id, &(struct sembuf){ 0, 1, 0 }, 1));
	msleep(10);
	OK(semop(id, &(struct sembuf){ 0, 1, 0 }, 1));
	WAIT_EXIT(pid, 0);
	CHECK_EQ(semctl(id, 0, GETVAL), 0);
	struct timespec ts = { 0, 20000000 };
	ERR(semtimedop(id, &(struct sembuf){ 0, -1, 0 }, 1, &ts), EAGAIN);
	CHILD(second)
	{
		ERR(semop(id, &(struct sembuf){ 0, -1, 0 }, 1), EIDRM);
	}
	msleep(30);
	OK(semctl(id, 0, IPC_RMID));
	WAIT_EXIT(second, 0);
}

TEST(sem_undo)
{
	int id = OK(semget(IPC_PRIVATE, 1, 0600));

	OK(semctl(id, 0, SETVAL, (union semun){ .val = 5 }));
	CHILD(pid)
	{
		OK(semop(id, &(struct sembuf){ 0, -3, SEM_UNDO }, 1));
		CHECK_EQ(semctl(id, 0, GETVAL), 2);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(semctl(id, 0, GETVAL), 5);
	OK(semctl(id, 0, IPC_RMID));
}

struct message {
	long type;
	char text[64];
};

TEST(msg_types)
{
	int id = OK(msgget(IPC_PRIVATE, 0600));
	struct message m = { 3, "three" };
	struct msqid_ds ds;

	OK(msgsnd(id, &m, 6, 0));
	m = (struct message){ 1, "one" };
	OK(msgsnd(id, &m, 4, 0));
	m = (struct message){ 2, "two" };
	OK(msgsnd(id, &m, 4, 0));
	OK(msgctl(id, IPC_STAT, &ds));
	CHECK_EQ(ds.msg_qnum, 3);
	CHECK_EQ(msgrcv(id, &m, 64, 2, 0), 4);
	CHECK_STR(m.text, "two");
	CHECK_EQ(msgrcv(id, &m, 64, -2, 0), 4);
	CHECK_STR(m.text, "one");
	ERR(msgrcv(id, &m, 2, 0, 0), E2BIG);
	CHECK_EQ(msgrcv(id, &m, 2, 0, MSG_NOERROR), 2);
	ERR(msgrcv(id, &m, 64, 0, IPC_NOWAIT), ENOMSG);
	m.type = 0;
	ERR(msgsnd(id, &m, 1, 0), EINVAL);
	OK(msgctl(id, IPC_RMID, NULL));
	ERR(msgsnd(id, &m, 1, 0), EINVAL);
}

TEST(msg_full_and_blocking)
{
	int id = OK(msgget(IPC_PRIVATE, 0600));
	struct { long type; char text[4096]; } m = { 1, "" };
	int sent = 0;

	while (msgsnd(id, &m, 4096, IPC_NOWAIT) == 0)
		sent++;
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(sent, 4);
	CHILD(pid)
	{
		OK(msgsnd(id, &m, 4096, 0));
	}
	msleep(30);
	CHECK_EQ(msgrcv(id, &m, 4096, 0, 0), 4096);
	WAIT_EXIT(pid, 0);
	OK(msgctl(id, IPC_RMID, NULL));
}

TEST(posix_queue)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 32 };
	char buf[32] = "";
	unsigned int priority;
	mqd_t queue = mq_open("/tests-queue", O_RDWR | O_CREAT | O_NONBLOCK, 0600, &attr);

	if (queue == (mqd_t)-1 && errno == ENOSYS)
		test_skip("no POSIX queues");
	CHECK(queue != (mqd_t)-1);
	OK(mq_send(queue, "low", 4, 1));
	OK(mq_send(queue, "high", 5, 9));
	CHECK_EQ(mq_receive(queue, buf, 32, &priority), 5);
	CHECK_STR(buf, "high");
	CHECK_EQ(priority, 9);
	ERR(mq_receive(queue, buf, 8, &priority), EMSGSIZE);
	CHECK_EQ(mq_receive(queue, buf, 32, &priority), 4);
	ERR(mq_receive(queue, buf, 32, &priority), EAGAIN);
	OK(mq_unlink("/tests-queue"));
}

TEST(queues_are_files)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 32 };
	struct stat st;
	char text[128];
	mqd_t queue;
	int fd;

	OK(unshare(CLONE_NEWNS));
	OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	OK(mkdir("m", 0755));
	OK(mount("mqueue", "m", "mqueue", 0, NULL));
	queue = mq_open("/tests-file", O_RDWR | O_CREAT, 0640, &attr);
	CHECK(queue >= 0);
	OK(stat("m/tests-file", &st));
	CHECK_EQ(st.st_mode, S_IFREG | 0640);
	CHECK_EQ(st.st_size, 80);
	OK(mq_send(queue, "12345", 5, 1));
	fd = open("m/tests-file", O_RDONLY);
	CHECK(read(fd, text, sizeof(text) - 1) > 50);
	CHECK(strncmp(text, "QSIZE:5 ", 8) == 0);
	CHECK_EQ(read(fd, text, sizeof(text)), 0);
	CHECK_EQ(mq_receive(fd, text, 32, NULL), 5); /* a descriptor like mq_open's */
	OK(close(fd));
	OK(chmod("m/tests-file", 0600));
	fd = open("m/by-file", O_RDWR | O_CREAT | O_EXCL, 0600);
	OK(close(fd));
	fd = mq_open("/by-file", O_RDONLY);
	OK(mq_close(fd));
	OK(unlink("m/by-file"));
	ERR(mq_open("/by-file", O_RDONLY), ENOENT);
	OK(mq_unlink("/tests-file"));
	ERR(stat("m/tests-file", &st), ENOENT);
	ERR(mkdir("m/dir", 0755), EPERM);
	CHECK(strstr(read_file("/proc/self/mounts"), " mqueue rw") != NULL);
	OK(umount("m"));
}
